// Everything that is asked of the server.

// An error as the server tells it: what came, what was expected, a hint.
class Refused extends Error {
  constructor(status, { got = "", expected = "", hint = "" } = {}, extra = {}) {
    super(got || `the server answered ${status}`);
    Object.assign(this, { status, got: got || `The server answered ${status}.`, expected, hint, ...extra });
  }
}

const unreachable = () =>
  new Refused(0, {
    got: "The server can’t be reached.",
    hint: "See whether `avel serve` still runs, then try again.",
  });

let askToken = null; // shows the login; resolves when it is done
export function onLogin(ask) {
  askToken = ask;
}

let asking = null;
function login() {
  asking ??= askToken().finally(() => (asking = null));
  return asking;
}

function refusal(status, text, header) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    /* an answer of something between us and the server */
  }
  return new Refused(status, body?.error ?? {}, { body, wait: Number(header("Retry-After")) || 0 });
}

// JSON of a request; asks for the token where it is wanted. `body` is sent as JSON, or as it is
// where it is FormData.
export async function call(method, path, body = undefined, options = {}) {
  const text = await (await answered(method, path, body, options)).text();
  return text ? JSON.parse(text) : null;
}

async function answered(method, path, body = undefined, { signal, bare = false, headers = {} } = {}) {
  const form = body instanceof FormData;
  const options = { method, signal, headers: { ...headers }, credentials: "same-origin" };
  if (body !== undefined) {
    options.body = form ? body : JSON.stringify(body);
    if (!form) options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(`/api/${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (answer.status === 401 && !bare) {
    await login();
    return answered(method, path, body, { signal, headers });
  }
  if (!answer.ok) throw refusal(answer.status, await answer.text(), (name) => answer.headers.get(name));
  return answer;
}

// A file of the server, saved as the browser saves downloads.
export async function download(path) {
  const answer = await answered("GET", path);
  const said = answer.headers.get("Content-Disposition") ?? "";
  const wide = /filename\*=utf-8''([^;]+)/i.exec(said),
    plain = /filename="?([^";]+)/i.exec(said);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = wide ? decodeURIComponent(wide[1]) : (plain?.[1] ?? "export");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// A name for a request, so that one sent twice is done once.
export const once = () => ({
  "Idempotency-Key": [...crypto.getRandomValues(new Uint8Array(16))]
    .map((b) => b.toString(16).padStart(2, "0"))
    .join(""),
});

export const get = (path, options) => call("GET", path, undefined, options);
export const post = (path, body, options) => call("POST", path, body, options);
export const job = (id, rest = "") => `jobs/${encodeURIComponent(id)}${rest}`;
export const address = (id, rest) => `/api/${job(id, rest)}`;

// Sends a file; `told(done, total)` while it is on its way. `signal` calls it off, `headers` are
// those of `once()`.
export function upload(file, model, told, signal, headers) {
  return new Promise((resolve, reject) => {
    const form = new FormData(),
      request = new XMLHttpRequest();
    form.append("model", model); // before the file, which may be refused by it
    form.append("file", file, file.name);
    request.open("POST", "/api/jobs");
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (e) => told(e.loaded, e.total);
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new DOMException("called off", "AbortError"));
    request.onload = () => {
      if (request.status === 401)
        return login()
          .then(() => upload(file, model, told, signal, headers))
          .then(resolve, reject);
      if (request.status >= 400)
        return reject(refusal(request.status, request.responseText, (n) => request.getResponseHeader(n)));
      try {
        resolve(JSON.parse(request.responseText));
      } catch {
        reject(new Refused(request.status));
      }
    };
    signal.addEventListener("abort", () => request.abort());
    if (signal.aborted) return reject(new DOMException("called off", "AbortError"));
    request.send(form);
  });
}

// Calls `changed(job)` whenever a job changes, `gone(id)` when it is deleted, `troubled(list)` when what keeps jobs from going on
// changes, and `again()` when changes may have been missed:
// by events of the server, or by looking every two seconds where they don't come.
export function follow({ changed, gone, troubled, again }) {
  let timer = 0,
    source = null;
  const poll = () => {
    again();
    timer = setTimeout(poll, 2000);
  };
  const calm = () => {
    clearTimeout(timer);
    timer = 0;
  };
  const open = (first) => {
    let late = !first; // something may have been missed before
    source = new EventSource("/api/progress");
    source.onopen = () => {
      calm();
      if (late) again();
      late = true;
    };
    source.onmessage = (event) => changed(JSON.parse(event.data));
    source.addEventListener("gone", (event) => gone(JSON.parse(event.data).id));
    source.addEventListener("troubles", (event) => troubled(JSON.parse(event.data)));
    source.onerror = () => {
      // it tries again by itself, but where it was refused
      timer ||= setTimeout(poll, 2000);
      if (source.readyState === EventSource.CLOSED) setTimeout(() => document.hidden || open(false), 5000);
    };
  };
  // a browser has six connections to a server: a tab that nobody sees leaves them to others
  document.addEventListener("visibilitychange", () => {
    source.close();
    calm();
    if (!document.hidden) open(false);
  });
  open(true);
}
