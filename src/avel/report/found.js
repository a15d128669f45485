(() => {
  const { $, data } = avel;
  const finds = [...document.querySelectorAll(".find")];

  // ---- a side of the comparison: the player of a cut, and the reel below it
  function side(name) {
    const media = $(`${name}-media`), still = $(`${name}-still`), reel = $(`${name}-reel`);
    if (!media) return null;
    const stretch = reel.querySelector(".stretch"), now = reel.querySelector(".at-now");
    let card = null, ready = false;
    function draw() {
      const t = ready ? media.currentTime : card.start;
      now.style.left = `${card.length ? Math.min(100, (100 * t) / card.length) : 0}%`;
    }
    function show(next, cut, image) {
      card = next;
      ready = false;
      media.pause();
      still.src = image;
      still.hidden = Boolean(cut) || !image;
      still.classList.toggle("sound", !card.seen);
      media.hidden = !cut;
      media.classList.toggle("sound", !card.seen);
      $(`${name}-unplayable`).hidden = Boolean(cut);
      const picture = $(`${name}-spectrogram`);
      if (picture) picture.src = image;
      media.poster = card.seen ? "" : image;
      if (cut) media.src = cut;
      else media.removeAttribute("src");
      stretch.style.left = `${card.left}%`;
      stretch.style.width = `${card.width}%`;
      draw();
    }
    const seek = (t) => {
      if (ready) media.currentTime = t;
    };
    media.addEventListener("loadedmetadata", () => {
      ready = true;
      media.currentTime = card.start;
    });
    media.addEventListener("error", () => {
      if (!media.hasAttribute("src")) return;
      ready = false;
      media.hidden = true;
      still.hidden = !still.src;
      $(`${name}-unplayable`).hidden = false;
    });
    const tick = () => {
      draw();
      if (!media.paused && !media.ended) requestAnimationFrame(tick);
    };
    media.addEventListener("play", tick);
    for (const event of ["pause", "seeked", "timeupdate"]) media.addEventListener(event, draw);
    reel.addEventListener("click", (event) => {
      const box = reel.firstElementChild.getBoundingClientRect();
      const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
      seek(share * card.length);
    });
    return { media, show, seek, card: () => card, plays: () => ready };
  }

  // ---- the query, and one of the moments beside it
  const cuts = new Map(); // addresses of cuts, made once each is first shown
  function cut(name) {
    if (!cuts.has(name)) cuts.set(name, $(`cut-${name}`) ? avel.address($(`cut-${name}`)) : "");
    return cuts.get(name);
  }
  const query = side("query"), moment = side("moment");
  query.show(data.query, cut("query"), $("query-still").getAttribute("src") ?? "");
  if (!moment) return;
  let chosen = -1;
  function choose(index) {
    if (index < 0 || index >= data.moments.length || index === chosen) return;
    apart();
    finds[chosen]?.classList.remove("on");
    finds[chosen]?.removeAttribute("aria-current");
    chosen = index;
    finds[chosen].classList.add("on");
    finds[chosen].setAttribute("aria-current", "true");
    const card = data.moments[index];
    moment.show(card, cut(index), finds[index].querySelector("img")?.getAttribute("src") ?? "");
    $("moment-title").textContent = `Match ${index + 1} of ${data.moments.length}`;
    $("moment-name").textContent = $("moment-name").title = card.name;
    const both = card.shared ? `, both: ${card.shared}` : "";
    $("moment-times").textContent = `${card.times}, distance ${card.distance.toFixed(3)}${both}`;
    $("moment-link").href = card.link;
    $("previous").disabled = index === 0;
    $("next").disabled = index === data.moments.length - 1;
    $("together").disabled = !cut("query") || !cut(index);
  }

  // ---- both at once: the query's one modality, the moment's other
  let paired = false;
  const quiet = data.modality === "sound" ? moment : query, loud = quiet === moment ? query : moment;
  function together() {
    if (data.modality === data.other || !query.plays() || !moment.plays()) return;
    paired = true;
    quiet.media.muted = true;
    loud.media.muted = false;
    for (const one of [query, moment]) {
      one.seek(one.card().start);
      one.media.play().catch(() => {});
    }
  }
  function apart() {
    if (!paired) return;
    paired = false;
    quiet.media.muted = false;
    for (const one of [query, moment]) one.media.pause();
  }
  for (const one of [query, moment]) {
    one.media.addEventListener("timeupdate", () => {
      if (paired && one.media.currentTime >= one.card().end) apart();
    });
    one.media.addEventListener("ended", apart);
  }
  $("together").addEventListener("click", together);

  // ---- choosing
  document.addEventListener("click", (event) => {
    const find = event.target.closest("[data-find]");
    if (!find) return;
    choose(Number(find.dataset.find));
    apart();
    moment.seek(moment.card().start);
    $("moment-title").closest("section").scrollIntoView({ block: "nearest" });
  });
  $("previous").addEventListener("click", () => choose(chosen - 1));
  $("next").addEventListener("click", () => choose(chosen + 1));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("summary")) return;
    const act = { n: () => choose(chosen + 1), p: () => choose(chosen - 1), t: together }[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
  choose(0);
})();
