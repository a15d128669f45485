(() => {
  const { $, data } = avel;
  const cards = [...document.querySelectorAll(".match")];

  // ---- one side of the comparison: the player of a cut, and the reel below it
  function side(name) {
    const media = $(`${name}-media`), still = $(`${name}-still`), reel = $(`${name}-reel`);
    if (!media) return null;
    const marker = reel.querySelector(".window"), now = reel.querySelector(".at-now");
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
      still.classList.toggle("sound", !card.visual);
      media.hidden = !cut;
      media.classList.toggle("sound", !card.visual);
      $(`${name}-unplayable`).hidden = Boolean(cut);
      const picture = $(`${name}-spectrogram`);
      if (picture) picture.src = image;
      media.poster = card.visual ? "" : image;
      if (cut) media.src = cut;
      else media.removeAttribute("src");
      marker.style.left = `${card.left}%`;
      marker.style.width = `${card.width}%`;
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

  // ---- the query, and one of the matches beside it
  const cuts = new Map(); // addresses of cuts, made when first shown
  function cut(name) {
    if (!cuts.has(name)) cuts.set(name, $(`cut-${name}`) ? avel.address($(`cut-${name}`)) : "");
    return cuts.get(name);
  }
  const query = side("query"), match = side("match");
  query.show(data.query, cut("query"), $("query-still").getAttribute("src") ?? "");
  if (!match) return;
  let chosen = -1;
  function choose(index) {
    if (index < 0 || index >= data.matches.length || index === chosen) return;
    endPair();
    cards[chosen]?.classList.remove("on");
    cards[chosen]?.removeAttribute("aria-current");
    chosen = index;
    cards[chosen].classList.add("on");
    cards[chosen].setAttribute("aria-current", "true");
    const card = data.matches[index];
    match.show(card, cut(index), cards[index].querySelector("img")?.getAttribute("src") ?? "");
    $("match-title").textContent = `Match ${index + 1} of ${data.matches.length}`;
    $("match-name").textContent = $("match-name").title = card.name;
    const both = card.shared ? `, both: ${card.shared}` : "";
    $("match-times").textContent = `${card.times}, distance ${card.distance.toFixed(3)}${both}`;
    $("match-link").href = card.link;
    $("previous").disabled = index === 0;
    $("next").disabled = index === data.matches.length - 1;
    $("together").disabled = !cut("query") || !cut(index);
  }

  // ---- both at once: the query's one modality, the match's other
  let paired = false;
  const muted = data.modality === "sound" ? match : query, audible = muted === match ? query : match;
  function together() {
    if (data.modality === data.other || !query.plays() || !match.plays()) return;
    paired = true;
    muted.media.muted = true;
    audible.media.muted = false;
    for (const one of [query, match]) {
      one.seek(one.card().start);
      one.media.play().catch(() => {});
    }
  }
  function endPair() {
    if (!paired) return;
    paired = false;
    muted.media.muted = false;
    for (const one of [query, match]) one.media.pause();
  }
  for (const one of [query, match]) {
    one.media.addEventListener("timeupdate", () => {
      if (paired && one.media.currentTime >= one.card().end) endPair();
    });
    one.media.addEventListener("ended", endPair);
  }
  $("together").addEventListener("click", together);

  // ---- choosing
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-match]");
    if (!button) return;
    choose(Number(button.dataset.match));
    endPair();
    match.seek(match.card().start);
    $("match-title").closest("section").scrollIntoView({ block: "nearest" });
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
