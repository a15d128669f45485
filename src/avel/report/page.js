(() => {
  const { $, data } = avel;
  const duration = data.duration || 0;
  const media = $("media"), tracks = $("tracks"), scroller = $("scroller"), ruler = $("ruler");
  const overlay = $("overlay"), still = $("still");
  const thumbnails = [...document.querySelectorAll(".thumbnail")];
  const rows = [...document.querySelectorAll("tr[data-event]")];
  const hues = new Map(data.lanes.map((lane) => [lane.label, lane.hue]));
  let virtual = 0; // the position where there is no media that plays
  let playable = Boolean(media);
  const file = media && fileClock(media, data.player_start);
  let zoom = 1;

  const words = (seconds, decimals) => avel.words(seconds, decimals, duration >= 3600);

  // ---- position
  const position = () => Math.min(playable ? file.time : virtual, duration);
  function seek(seconds) {
    virtual = Math.min(Math.max(0, seconds), duration);
    if (playable) file.seek(virtual);
    show(virtual);
    reveal(virtual);
  }

  function active(t) {
    return data.events.map((e, i) => [e, i]).filter(([e]) => e[0] <= t + 1e-4 && t + 1e-4 < e[1]);
  }

  const singleAt = (t) => // what is only heard or only seen, where it is shown
    tracks.classList.contains("no-single") ? [] : data.single.filter((e) => e[0] <= t + 1e-4 && t + 1e-4 < e[1]);

  let shownChips = "", shownThumbnail = null;
  function show(t) {
    const share = duration > 0 ? Math.min(t / duration, 1) : 0;
    tracks.style.setProperty("--t", share);
    $("clock") && ($("clock").textContent = words(t, 1));
    ruler.setAttribute("aria-valuenow", t.toFixed(2));
    const on = active(t), single = singleAt(t), key = [...on.map(([, i]) => i), "", ...single.map(quietly)].join();
    const text = [...on.map(([e]) => e[2]), ...single.map(quietly)].join(", ") || "no event";
    ruler.setAttribute("aria-valuetext", `${words(t, 1)}, ${text}`);
    if (key !== shownChips || !$("now").firstChild) {
      shownChips = key;
      $("now").replaceChildren(...(on.length ? on.map(([e]) => chip(e)) : single.length ? [] : [nothing()]), ...single.map(quiet));
      const live = new Set(on.map(([, i]) => i));
      rows.forEach((row) => row.classList.toggle("on", live.has(Number(row.dataset.event))));
    }
    const thumbnail = nearest(t);
    if (thumbnail !== shownThumbnail) {
      shownThumbnail && shownThumbnail.classList.remove("on");
      thumbnail && thumbnail.classList.add("on");
      shownThumbnail = thumbnail;
    }
    if (!playable && still && thumbnail) still.src = thumbnail.querySelector("img").src;
    drawOverlay(t);
  }

  function chip([, , label, score]) {
    const box = document.createElement("span"), dot = document.createElement("i");
    const name = document.createElement("span");
    box.className = "chip";
    dot.className = "dot";
    box.style.setProperty("--h", hues.get(label) ?? 0);
    name.textContent = score === null ? label : `${label} ${score.toFixed(2)}`;
    box.append(dot, name);
    return box;
  }
  const quietly = ([, , label, , where]) => `${label} (${where.toLowerCase()})`;
  function quiet(event) {
    const box = document.createElement("span"), name = document.createElement("span");
    box.className = "chip quiet";
    name.textContent = quietly(event);
    box.append(name);
    return box;
  }
  function nothing() {
    const box = document.createElement("span");
    box.className = "chip none";
    box.textContent = "no event";
    return box;
  }
  function nearest(t) {
    let best = null, least = Infinity;
    for (const thumbnail of thumbnails) {
      const away = Math.abs(Number(thumbnail.dataset.at) - t);
      if (away <= least) [best, least] = [thumbnail, away];
    }
    return best;
  }

  // ---- the media
  if (media) {
    const held = $("avel-media");
    if (held) {
      media.src = avel.address(held);
    }
    media.addEventListener("error", () => {
      playable = false;
      media.hidden = true;
      $("unplayable").hidden = false;
      if (still && thumbnails.length) {
        still.hidden = false;
        $("unplayable").style.placeSelf = "end center";
      }
      show(virtual);
    });
    const tick = () => {
      show(position());
      reveal(position());
      if (!media.paused && !media.ended) requestAnimationFrame(tick);
    };
    media.addEventListener("play", tick);
    for (const name of ["pause", "seeked", "timeupdate", "loadedmetadata"]) {
      media.addEventListener(name, () => show(position()));
    }
  }

  // ---- attention
  const look = data.attention, maps = look ? attentionMaps(look) : null;
  let drawn = -1;
  function drawOverlay(t) {
    if (!look || !overlay || overlay.closest(".sound")) return;
    const index = maps.at(t);
    if (index !== drawn && index >= 0) maps.draw(overlay, (drawn = index));
  }
  function placeOverlay() { // over the picture itself, not over the black bars beside it
    if (!overlay) return;
    const stage = $("stage"), picture = playable ? media : still;
    const w = picture.videoWidth || picture.naturalWidth || 0;
    const h = picture.videoHeight || picture.naturalHeight || 0;
    const [a, b] = w && h ? [w, h] : getComputedStyle(stage).getPropertyValue("--shape").split("/").map(Number);
    const scale = Math.min(stage.clientWidth / a, stage.clientHeight / b);
    overlay.style.width = `${a * scale}px`;
    overlay.style.height = `${b * scale}px`;
    overlay.style.left = `${(stage.clientWidth - a * scale) / 2}px`;
    overlay.style.top = `${(stage.clientHeight - b * scale) / 2}px`;
  }
  if (look) { // each picture has a map of its own: those of a long file are of every so many segments
    const own = attentionMaps({ ...look, data: look.thumbnails });
    thumbnails.forEach((m, i) => own.draw(m.querySelector("canvas"), i));
  }
  function toggleAttention() {
    const button = $("attention");
    if (!button) return;
    const plain = document.body.classList.toggle("plain");
    button.setAttribute("aria-pressed", String(!plain));
  }
  $("attention")?.addEventListener("click", toggleAttention);

  // ---- what is only heard or only seen
  function toggleSingle() {
    const button = $("single");
    if (!button) return;
    button.setAttribute("aria-pressed", String(!tracks.classList.toggle("no-single")));
    tip.hidden = true;
    show(position());
  }
  $("single")?.addEventListener("click", toggleSingle);

  // ---- ruler and zoom
  const laneWidth = () => ruler.clientWidth || 1;
  function rule() {
    const step = rulerStep(duration, laneWidth());
    const marks = [];
    for (let t = 0; t <= duration + 1e-6; t += step) {
      const mark = document.createElement("span");
      mark.textContent = words(t, step < 1 ? 1 : 0);
      mark.style.left = `${duration ? (100 * t) / duration : 0}%`;
      if (t && duration - t < step * 0.3) mark.className = "last";
      marks.push(mark);
    }
    ruler.replaceChildren(...marks);
  }
  const maxZoom = () => Math.max(1, (duration / data.step) * 24 / (scroller.clientWidth || 1));
  function setZoom(wanted) {
    const keep = duration ? position() / duration : 0;
    zoom = Math.min(Math.max(1, wanted), maxZoom());
    tracks.style.width = `${zoom * 100}%`;
    rule();
    scroller.scrollLeft = keep * tracks.clientWidth - scroller.clientWidth / 2;
    $("zoom").hidden = maxZoom() <= 1;
    $("zoom-out").disabled = zoom <= 1;
    $("zoom-in").disabled = zoom >= maxZoom() - 1e-6;
  }
  function reveal(t) { // keeps the cursor in sight of a timeline that is zoomed in
    if (zoom <= 1 || !duration) return;
    const gutter = tracks.clientWidth - laneWidth(), at = gutter + laneWidth() * (t / duration);
    const left = scroller.scrollLeft + gutter, right = scroller.scrollLeft + scroller.clientWidth - 40;
    if (at < left || at > right) scroller.scrollLeft = at - gutter - 60;
  }
  $("zoom-in").addEventListener("click", () => setZoom(zoom * 2));
  $("zoom-out").addEventListener("click", () => setZoom(zoom / 2));

  // ---- pointing at the timeline
  const secondsAt = (event) => {
    const box = ruler.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * duration;
  };
  const tip = $("tip");
  tracks.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || !event.target.closest(".lane")) return void (tip.hidden = true);
    const t = secondsAt(event), single = event.target.closest(".single");
    if (event.buttons & 1 && dragging) seek(t);
    if (single) return tipOf(single, event.clientX);
    const index = Math.floor(t / data.bin + 1e-6);
    const time = document.createElement("b");
    time.textContent = words(t, 1);
    const lines = data.lanes.filter((l) => l.values.length).map((lane) => {
      const line = document.createElement("div");
      line.textContent = `${lane.label} ${(lane.values[Math.min(index, lane.values.length - 1)] / 1000).toFixed(2)}`;
      return line;
    });
    placeTip(event.clientX, time, ...lines);
  });
  function placeTip(clientX, ...content) {
    tip.replaceChildren(...content);
    tip.style.left = `${clientX - tracks.getBoundingClientRect().left}px`;
    tip.style.top = "";
    tip.classList.toggle("left", clientX > innerWidth * 0.6);
    tip.hidden = false;
  }
  function tipOf(button, clientX) { // of what is only heard or only seen: beside it
    const what = document.createElement("b"), when = document.createElement("div");
    what.textContent = button.dataset.tip;
    when.textContent = button.dataset.times;
    placeTip(clientX, what, when);
    const box = tracks.getBoundingClientRect(), own = button.getBoundingClientRect();
    tip.style.top = `${Math.max(0, own.top - box.top - tip.offsetHeight - 4)}px`;
  }
  tracks.addEventListener("focusin", (event) => {
    const single = event.target.closest(".single:focus-visible");
    if (single) tipOf(single, single.getBoundingClientRect().left);
  });
  tracks.addEventListener("focusout", () => (tip.hidden = true));
  tracks.addEventListener("pointerleave", () => (tip.hidden = true));
  let dragging = false;
  tracks.addEventListener("pointerdown", (event) => {
    dragging = event.pointerType === "mouse" && Boolean(event.target.closest(".lane")) && !event.target.closest("[data-jump]");
    if (dragging) event.preventDefault();
  });
  addEventListener("pointerup", () => (dragging = false));
  tracks.addEventListener("click", (event) => {
    if (event.target.closest(".lane") && !event.target.closest("[data-jump]")) seek(secondsAt(event));
  });
  document.addEventListener("click", (event) => {
    const jump = event.target.closest("[data-jump]") ?? event.target.closest("tr[data-event]")?.querySelector("[data-jump]");
    if (jump) seek(Number(jump.dataset.jump));
  });

  // ---- keys
  function toEvent(direction) {
    const t = position(), starts = [...new Set(data.events.map((e) => e[0]))].sort((a, b) => a - b);
    const next = direction > 0 ? starts.find((s) => s > t + 0.01) : starts.findLast((s) => s < t - 0.3);
    if (next !== undefined) seek(next);
  }
  $("previous").addEventListener("click", () => toEvent(-1));
  $("next").addEventListener("click", () => toEvent(1));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === media) return;
    const typing = event.target.closest("input, textarea, select, summary, [contenteditable]");
    const scrolling = event.target.closest(".scroll, pre") && !event.target.closest("button");
    const keys = {
      ArrowLeft: () => seek(position() - data.step),
      ArrowRight: () => seek(position() + data.step),
      n: () => toEvent(1), p: () => toEvent(-1), a: toggleAttention, h: toggleSingle,
      "+": () => setZoom(zoom * 2), "=": () => setZoom(zoom * 2), "-": () => setZoom(zoom / 2),
    };
    if (event.target === ruler) Object.assign(keys, { Home: () => seek(0), End: () => seek(duration) });
    if (playable && !event.target.closest("button")) {
      keys[" "] = () => (media.paused ? media.play().catch(() => {}) : media.pause());
    }
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || typing || (scrolling && event.key.startsWith("Arrow"))) return;
    event.preventDefault();
    act();
  });

  // ---- the events as CSV
  $("save-csv")?.addEventListener("click", () => {
    const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const lines = data.events.map(([start, end, label, score]) => [start, end, quote(label), score ?? ""].join());
    const blob = new Blob([["start,end,label,score", ...lines, ""].join("\r\n")], { type: "text/csv" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${document.title.replace(/ · avel$/, "").replace(/\.[^.]*$/, "")}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });

  const arrange = () => { setZoom(zoom); placeOverlay(); };
  new ResizeObserver(arrange).observe(document.body);
  media?.addEventListener("loadedmetadata", placeOverlay);
  still?.addEventListener("load", placeOverlay);
  arrange();
  show(position());
})();
