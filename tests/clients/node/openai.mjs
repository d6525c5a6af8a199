// openai-node behind JSON lines.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { serve } from "./lines.mjs";

const Person = z.object({ name: z.string(), born: z.number() });
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    parse: JSON.parse,
    function: ({ city }) => `sunny in ${city}`,
  },
};

const client = (call) => new OpenAI({ baseURL: call.url, apiKey: call.key });
const body = (call) => ({ model: call.model, messages: call.messages, ...call.fields });
const counts = (u) => u && [u.prompt_tokens, u.completion_tokens, u.total_tokens];
const calls = (message) =>
  (message.tool_calls ?? []).map((c) => [c.function.name, JSON.parse(c.function.arguments)]);

function outcome(completion, pieces = 1) {
  const { message, finish_reason } = completion.choices[0];
  return {
    text: message.content ?? "",
    reasoning: message.reasoning_content ?? "",
    finish: finish_reason,
    usage: counts(completion.usage) ?? null,
    calls: calls(message),
    pieces,
  };
}

async function chat(call) {
  const done = await client(call).chat.completions.create(body(call));
  return { ...outcome(done), request_id: done._request_id };
}

async function stream(call) {
  const asked = call.usage ? { stream_options: { include_usage: true } } : {};
  const chunks = client(call).chat.completions.stream({ ...body(call), ...asked });
  let pieces = 0;
  let empty = 0;
  for await (const chunk of chunks) {
    pieces += Boolean(chunk.choices[0]?.delta?.content);
    empty += chunk.choices.length === 0;
  }
  return { ...outcome(await chunks.finalChatCompletion(), pieces), empty };
}

async function cancel(call) {
  const chunks = await client(call).chat.completions.create({ ...body(call), stream: true });
  for await (const chunk of chunks) {
    if (chunk.choices[0]?.delta?.content) return { text: chunk.choices[0].delta.content };
  }
}

async function tools(call) {
  const forced = { tool_choice: { type: "function", function: { name: "get_weather" } } };
  const asked = call.forced ? { ...forced, parallel_tool_calls: false } : {};
  if (call.forced) return once(call, asked);
  const run = client(call).chat.completions.runTools({
    ...body(call), ...asked, tools: [weather], stream: call.streamed,
  });
  const text = await run.finalContent();
  return { text, calls: run.messages.flatMap(calls) };
}

// The client's tool loop stops after a forced call, so the second turn is asked for by hand.
async function once(call, asked) {
  const { parse, function: made, ...plain } = weather.function;
  const tools = [{ type: "function", function: plain }];
  const ask = async (messages, fields) => {
    const request = { ...body(call), ...fields, messages, tools };
    if (!call.streamed) return (await client(call).chat.completions.create(request)).choices[0].message;
    return (await client(call).chat.completions.stream(request).finalChatCompletion()).choices[0].message;
  };
  const first = await ask(call.messages, asked);
  const results = first.tool_calls.map((c) => ({
    role: "tool", tool_call_id: c.id, content: made(parse(c.function.arguments)),
  }));
  const second = await ask([...call.messages, first, ...results], {});
  return { text: second.content, calls: calls(first) };
}

async function schema(call) {
  if (call.strict) {
    const response_format = zodResponseFormat(Person, "person");
    const done = await client(call).chat.completions.parse({ ...body(call), response_format });
    return { value: done.choices[0].message.parsed };
  }
  const response_format = { type: "json_object" };
  const done = await client(call).chat.completions.create({ ...body(call), response_format });
  return { value: Person.parse(JSON.parse(done.choices[0].message.content)) };
}

async function embed(call) {
  const asked = call.format ? { encoding_format: call.format } : {};
  const made = await client(call).embeddings.create({
    model: call.model, input: call.input, ...asked,
  });
  return { vectors: made.data.map((d) => Array.from(d.embedding)) };
}

async function models(call) {
  const ids = [];
  for await (const model of client(call).models.list()) ids.push(model.id);
  return { ids };
}

function failure(error) {
  if (!(error instanceof OpenAI.OpenAIError)) return null;
  const { status = null, code = null, param = null, type = null, message } = error;
  return { class: error.constructor.name, status, code, param, type, message };
}

await serve({ chat, stream, cancel, tools, schema, embed, models }, failure);
