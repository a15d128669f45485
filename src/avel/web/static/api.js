// Requests to the server.

// An error of the server: got, expected, hint.
class ApiError extends Error {
  constructor(status, { got = "", expected = "", hint = "" } = {}, extra = {}) {
    super(got || `the server answered ${status}`);
    Object.assign(this, { status, got: got || `The server answered ${status}.`, expected, hint, ...extra });
  }
}

const unreachable = () =>
  new ApiError(0, {
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

function apiError(status, text, header) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    /* a response of a proxy */
  }
  return new ApiError(status, body?.error ?? {}, { body, wait: Number(header("Retry-After")) || 0 });
}

// JSON of a request; asks for the token where one is needed. `body` is sent as JSON, or as it is
// where it is FormData.
export async function call(method, path, body = undefined, options = {}) {
  const text = await (await request(method, path, body, options)).text();
  return text ? JSON.parse(text) : null;
}

async function request(method, path, body = undefined, { signal, bare = false, headers = {} } = {}) {
  const form = body instanceof FormData;
  const options = { method, signal, headers: { ...headers }, credentials: "same-origin" };
  if (body !== undefined) {
    options.body = form ? body : JSON.stringify(body);
    if (!form) options.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(`/api/${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (response.status === 401 && !bare) {
    await login();
    return request(method, path, body, { signal, headers });
  }
  if (!response.ok) throw apiError(response.status, await response.text(), (name) => response.headers.get(name));
  return response;
}

// A file of the server, saved as the browser saves downloads.
export async function download(path) {
  const response = await request("GET", path);
  const disposition = response.headers.get("Content-Disposition") ?? "";
  const wide = /filename\*=utf-8''([^;]+)/i.exec(disposition),
    plain = /filename="?([^";]+)/i.exec(disposition);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
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

// Sends a file; `progress(done, total)` while it is on its way. `signal` cancels it, `headers` are
// those of `once()`.
export function upload(file, model, progress, signal, headers) {
  return new Promise((resolve, reject) => {
    const form = new FormData(),
      request = new XMLHttpRequest();
    form.append("model", model); // before the file, which may be refused by it
    form.append("file", file, file.name);
    request.open("POST", "/api/jobs");
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (e) => progress(e.loaded, e.total);
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onload = () => {
      if (request.status === 401)
        return login()
          .then(() => upload(file, model, progress, signal, headers))
          .then(resolve, reject);
      if (request.status >= 400)
        return reject(apiError(request.status, request.responseText, (n) => request.getResponseHeader(n)));
      try {
        resolve(JSON.parse(request.responseText));
      } catch {
        reject(new ApiError(request.status));
      }
    };
    signal.addEventListener("abort", () => request.abort());
    if (signal.aborted) return reject(new DOMException("cancelled", "AbortError"));
    request.send(form);
  });
}

// Calls `changed(job)` when a job changes, `deleted(id)` when it is deleted, `troubled(list)` when
// what keeps jobs from running changes, and `again()` when changes may have been missed: by
// server-sent events, or by polling every two seconds where they don't arrive.
export function follow({ changed, deleted, troubled, again }) {
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
    source.addEventListener("gone", (event) => deleted(JSON.parse(event.data).id));
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
