// The official Node SDK: the plain calls, and its stream helpers.

import OpenAI from "openai";
import { lookup, say, serve, tool } from "./wire.mjs";

const client = new OpenAI();

async function responses({ model, text, stream, tool: withTool }) {
  const input = [{ role: "user", content: text }];
  const tools = withTool ? [{ type: "function", ...tool }] : undefined;
  for (;;) {
    let result;
    if (stream) {
      const events = client.responses.stream({ model, input, tools });
      for await (const event of events) if (event.type === "response.output_text.delta") say({ piece: event.delta });
      result = await events.finalResponse();
    } else {
      result = await client.responses.create({ model, input, tools });
    }
    input.push(...result.output);
    const calls = result.output.filter((item) => item.type === "function_call");
    if (!calls.length) return result.output_text;
    for (const call of calls) {
      const output = await lookup(JSON.parse(call.arguments));
      input.push({ type: "function_call_output", call_id: call.call_id, output });
    }
  }
}

async function chat({ model, text, stream, tool: withTool }) {
  const messages = [{ role: "user", content: text }];
  const tools = withTool ? [{ type: "function", function: tool }] : undefined;
  for (;;) {
    let result;
    if (stream) {
      const runner = client.chat.completions.stream({ model, messages, tools });
      for await (const chunk of runner) {
        const piece = chunk.choices[0]?.delta.content;
        if (piece) say({ piece });
      }
      result = await runner.finalChatCompletion();
    } else {
      result = await client.chat.completions.create({ model, messages, tools });
    }
    const { message } = result.choices[0];
    messages.push(message);
    if (!message.tool_calls?.length) return message.content;
    for (const call of message.tool_calls) {
      const content = await lookup(JSON.parse(call.function.arguments));
      messages.push({ role: "tool", tool_call_id: call.id, content });
    }
  }
}

await serve((job) => (job.api === "responses" ? responses(job) : chat(job)));
