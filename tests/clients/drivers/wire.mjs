// The Node end of wire.py: the same lines, the same words.
//
// Before version 24, Node's own fetch knows no proxy variables; there the dispatcher of undici, which is what that
// fetch is made of, brings them, as its documentation shows.

import { createInterface } from "node:readline";
import { EnvHttpProxyAgent, setGlobalDispatcher } from "undici";

if (Number(process.versions.node.split(".")[0]) < 24) setGlobalDispatcher(new EnvHttpProxyAgent());

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => {
  const { value, done } = await lines.next();
  return done ? undefined : JSON.parse(value);
};

export const say = (event) => process.stdout.write(JSON.stringify(event) + "\n");

export const description = "What a word means.";
export const tool = {
  name: "lookup",
  description,
  parameters: {
    type: "object",
    properties: { word: { type: "string", description: "The word." } },
    required: ["word"],
    additionalProperties: false,
  },
  strict: true,
};

export async function lookup({ word }) {
  say({ call: { name: "lookup", arguments: { word } } });
  return (await next()).output;
}

function classes(error) {
  const names = [error.name];
  for (let kind = error.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) names.push(kind.name);
  return names;
}

export async function serve(answer) {
  for (let job = await next(); job; job = await next()) {
    try {
      say({ text: await answer(job) });
    } catch (error) {
      const status = error.status ?? error.statusCode ?? null;
      say({ error: { classes: classes(error), status, message: String(error.message) } });
    }
  }
}
