// The page of `avel serve`: which view is shown, who may see it, and what happens outside of views.
import { follow, get, job, onLogin, post } from "./api.js";
import { byId, button, el, problem, prose, toast } from "./dom.js";
import { showShortcuts } from "./shortcuts.js";
import { Uploads } from "./upload.js";
import { JobList } from "./job_list.js";
import { LearnCard } from "./learn.js";
import { Review } from "./review.js";

// ---- the token, where the server wants one
onLogin(
  () =>
    new Promise((resolve) => {
      const token = el("input", {
        type: "password",
        id: "token",
        name: "token",
        className: "field",
        required: true,
        autocomplete: "current-password",
        "aria-describedby": "token-message",
      });
      const message = el("p", { id: "token-message", role: "alert" });
      const box = el(
        "dialog",
        { className: "dialog", "aria-labelledby": "login-title" },
        el(
          "form",
          {
            onsubmit: async (event) => {
              event.preventDefault();
              try {
                await post("login", { token: token.value }, { bare: true });
              } catch (error) {
                message.textContent =
                  error.status === 401
                    ? "That isn’t the token."
                    : [error.got, error.hint].filter(Boolean).join(" ");
                token.select();
                return;
              }
              box.remove();
              resolve();
            },
          },
          el("h2", { id: "login-title" }, "This server asks for its token"),
          el("p", {}, prose("It was printed where `avel serve` was started; who runs it knows it.")),
          el("label", { for: "token" }, "Token"),
          token,
          message,
          el("div", { className: "answers" }, el("button", { className: "button wide primary" }, "Open")),
        ),
      );
      box.addEventListener("cancel", (event) => event.preventDefault()); // there is nothing behind it
      document.body.append(box);
      box.showModal();
      token.focus();
    }),
);

// ---- the views
let jobs,
  review,
  uploads,
  shown = null;

const wanted = () => {
  const [, view, id] = location.hash.split("/");
  return view === "job" && id ? decodeURIComponent(id) : "";
};

async function route() {
  const id = wanted();
  if (id === shown) return;
  if (!(await review.leave()))
    return void history.replaceState(null, "", `#/job/${encodeURIComponent(shown)}`);
  shown = id;
  byId("trouble").replaceChildren();
  byId("home").hidden = Boolean(id);
  byId("review").hidden = !id;
  byId("skip").href = id ? "#timeline" : "#jobs";
  scrollTo(0, 0);
  if (id) await review.show(id);
  else jobs.show();
  byId("title").focus({ preventScroll: true });
}

byId("skip").addEventListener("click", (event) => {
  // the address's # is taken by the views
  event.preventDefault();
  const target = document.querySelector(byId("skip").getAttribute("href"));
  target.tabIndex = -1;
  target.focus();
});

async function start() {
  let about;
  try {
    about = await get("about");
  } catch (error) {
    byId("trouble").replaceChildren(
      problem(error),
      button("retry", "Try again", () => location.reload(), { text: "Try again" }),
    );
    return;
  }
  jobs = new JobList(about);
  uploads = new Uploads(about, jobs);
  review = new Review(about, jobs);
  jobs.learnCard = new LearnCard(about, {
    changed: () => uploads.showModels(),
    use: (name) => uploads.choose(name),
  });
  byId("actions").after(button("keys", "Keys (?)", showShortcuts, { id: "keys" }));
  const again = () =>
    jobs.load().then(
      () => jobs.jobs.has(review.id) && review.changed(jobs.jobs.get(review.id)),
      () => {},
    );
  follow({
    changed: (j) => {
      jobs.changed(j);
      review.changed(j);
    },
    deleted: (id) => {
      jobs.forget(id);
      review.deleted(id);
    },
    troubled: (list) => jobs.troubled(list),
    again,
  });
  try {
    await jobs.load();
  } catch (error) {
    byId("trouble").replaceChildren(problem(error));
  }
  addEventListener("hashchange", route);
  await route();
}

addEventListener("unhandledrejection", (event) => {
  const error = event.reason;
  if (error?.name === "AbortError") return event.preventDefault();
  toast(
    [error?.got ?? "Something went wrong in this page.", error?.hint ?? "Load it again."]
      .filter(Boolean)
      .join(" "),
    { bad: true },
  );
});
document.addEventListener("keydown", (event) => {
  if (event.key === "?" && !event.target.closest("input, textarea, select, dialog")) showShortcuts();
});

start();
