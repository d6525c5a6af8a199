// The Vercel AI SDK with its OpenAI-compatible provider, behind JSON lines.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  AISDKError, APICallError, embedMany, generateText, Output, RetryError, stepCountIs, streamText, tool,
} from "ai";
import { z } from "zod";
import { serve } from "./lines.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

const Person = z.object({ name: z.string(), born: z.number() });
const get_weather = tool({
  description: "The weather in a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city}`,
});

const provider = (call) =>
  createOpenAICompatible({
    name: "bicameral",
    baseURL: call.url,
    apiKey: call.key,
    includeUsage: Boolean(call.usage),
    supportsStructuredOutputs: call.strict ?? true,
    transformRequestBody: (body) => ({ ...body, ...call.fields }),
  });
const asked = (call) => ({ model: provider(call)(call.model), messages: call.messages });
const counts = (u) => (u.inputTokens === undefined ? null : [u.inputTokens, u.outputTokens, u.totalTokens]);
const reasons = { "tool-calls": "tool_calls" };

function outcome({ text, reasoning, finish, usage, calls, pieces }) {
  return {
    text,
    reasoning: reasoning ?? "",
    finish: reasons[finish] ?? finish,
    usage: counts(usage),
    calls: calls.map((c) => [c.toolName, c.input]),
    pieces,
  };
}

async function chat(call) {
  const done = await generateText(asked(call));
  return outcome({
    text: done.text, reasoning: done.reasoningText, finish: done.finishReason,
    usage: done.usage, calls: done.toolCalls, pieces: 1,
  });
}

// What goes wrong in a stream is a part of it here, not an exception.
async function stream(call) {
  const done = streamText({ ...asked(call), onError: () => {} });
  let pieces = 0;
  let failed = null;
  for await (const part of done.fullStream) {
    if (part.type === "text-delta") pieces += 1;
    if (part.type === "error") failed = part.error;
  }
  if (failed) throw failed;
  return outcome({
    text: await done.text, reasoning: await done.reasoningText, finish: await done.finishReason,
    usage: await done.usage, calls: await done.toolCalls, pieces,
  });
}

async function cancel(call) {
  const stop = new AbortController();
  const done = streamText({ ...asked(call), abortSignal: stop.signal, onError: () => {} });
  let text = "";
  for await (const part of done.fullStream) {
    if (part.type !== "text-delta" || text) continue;
    text = part.text;
    stop.abort();
  }
  return { text };
}

async function tools(call) {
  const request = { ...asked(call), tools: { get_weather }, stopWhen: stepCountIs(3) };
  if (call.forced) {
    request.prepareStep = ({ stepNumber }) =>
      stepNumber === 0 ? { toolChoice: { type: "tool", toolName: "get_weather" } } : {};
  }
  const done = call.streamed ? streamText({ ...request, onError: () => {} }) : await generateText(request);
  if (call.streamed) await done.consumeStream();
  const steps = await done.steps;
  return {
    text: await done.text,
    calls: steps.flatMap((s) => s.toolCalls.map((c) => [c.toolName, c.input])),
  };
}

async function schema(call) {
  const done = await generateText({ ...asked(call), output: Output.object({ schema: Person }) });
  return { value: done.output };
}

async function embed(call) {
  const model = provider(call).embeddingModel(call.model);
  const done = await embedMany({ model, values: call.input });
  return { vectors: done.embeddings };
}

// An error that came inside a stream is the plain object that the server sent.
function failure(error) {
  const last = RetryError.isInstance(error) ? error.lastError : error;
  if (APICallError.isInstance(last)) {
    const { code = null, param = null, type = null } = last.data?.error ?? {};
    return { class: error.name, status: last.statusCode, code, param, type, message: last.message };
  }
  if (AISDKError.isInstance(last)) return { class: last.name, message: last.message };
  return last instanceof Error ? null : last;
}

await serve({ chat, stream, cancel, tools, schema, embed }, failure);
