/** Talk to the server. Every failure becomes an ApiError whose message may be shown as it is. */

export class ApiError extends Error {}

const UNREACHABLE = "The server could not be reached. Check your connection and try again.";
const CUT_OFF = "The answer was cut off before its end.";
const EXPIRED = "Your sign-in is no longer valid. Reload the page to sign in again.";

export const getConfig = () => callJson("ui/config");
export const getCustomers = async () => (await callJson("demo/customers")).customers;
export const signIn = async (who) => (await callJson("demo/sign-in", { body: who })).token;
export const sendFeedback = (feedback, token) => callJson("v1/feedback", { body: feedback, token });
export const getPassage = (turnId, n, { token, signal }) =>
  callJson(`v1/turns/${encodeURIComponent(turnId)}/passages/${n}`, { token, signal });

/** Yield the chat.completion.chunk objects of one answer. Throws AbortError when `signal` aborts. */
export async function* streamChat(request, { token, signal }) {
  const response = await call("v1/chat/completions", { body: { ...request, stream: true }, token, signal });
  for await (const data of eventData(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message || CUT_OFF);
    yield chunk;
  }
  throw new ApiError(CUT_OFF);
}

async function call(path, { body, token, signal } = {}) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      body: body && JSON.stringify(body),
      // The token alone says who asks; a cookie must never decide it.
      credentials: "omit",
      headers,
      signal,
    });
  } catch (error) {
    throw error.name === "AbortError" ? error : new ApiError(UNREACHABLE);
  }
  if (!response.ok) throw await failureOf(response);
  return response;
}

const callJson = async (path, options) => (await call(path, options)).json();

async function failureOf(response) {
  if (response.status === 401) return new ApiError(EXPIRED);
  // A proxy in between may answer with a page instead of our error object.
  const body = await response.json().catch(() => null);
  return new ApiError(body?.error?.message || `The server answered with status ${response.status}.`);
}

/** Yield the `data` of each server-sent event; pieces may break anywhere, lines may end in CRLF. */
async function* eventData(stream) {
  let rest = "";
  let data = [];
  for await (const piece of textPieces(stream)) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    for (const line of lines.map((each) => each.replace(/\r$/, ""))) {
      if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      else if (line === "" && data.length) {
        yield data.join("\n");
        data = [];
      }
    }
  }
}

// Safari cannot iterate over a stream, so this reads it by hand.
async function* textPieces(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield decoder.decode(value, { stream: true });
    }
  } catch (error) {
    throw error.name === "AbortError" ? error : new ApiError(CUT_OFF);
  } finally {
    reader.cancel().catch(() => {});
  }
}
