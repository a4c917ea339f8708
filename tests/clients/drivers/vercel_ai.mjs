// The Vercel AI SDK: generateText and streamText, which run the tool loop by themselves.

import { openai } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { description, lookup, say, serve } from "./wire.mjs";

async function answer({ api, model, text, stream, tool: withTool }) {
  const inputSchema = z.object({ word: z.string().describe("The word.") });
  const tools = withTool ? { lookup: tool({ description, inputSchema, execute: lookup }) } : undefined;
  const call = {
    model: api === "responses" ? openai(model) : openai.chat(model),
    prompt: text,
    tools,
    stopWhen: stepCountIs(5),
  };
  if (!stream) return (await generateText(call)).text;
  const result = streamText({ ...call, onError() {} });
  for await (const part of result.fullStream) {
    if (part.type === "text-delta") say({ piece: part.text });
    if (part.type === "error") throw part.error;
  }
  return await result.text;
}

await serve(answer);
