// The file itself, playing: position, attention over the picture, stills where it can't play.
import { address } from "./api.js";
import { byId, button, el } from "./dom.js";
import { attentionMaps, fileClock, timeWords } from "/static/report/shared.js";

const look = ({ grid: [rows, columns], seconds, maps }) => ({ rows, columns, seconds, data: maps });

export class Player extends EventTarget {
  // Emits "time" with every new position.
  constructor() {
    super();
    this.stage = byId("stage");
    this.overlay = el("canvas", { id: "overlay", "aria-hidden": "true" });
    this.still = el("img", { id: "still", alt: "", hidden: true });
    this.plain = false;
    new ResizeObserver(() => this.placeOverlay()).observe(this.stage);
    this.still.addEventListener("load", () => this.placeOverlay());
    this.clear();
  }

  clear() {
    this.media?.pause();
    this.media?.removeAttribute("src");
    this.media?.load(); // lets go of the connection
    Object.assign(this, {
      media: null,
      playable: false,
      virtual: 0,
      duration: 0,
      maps: null,
      drawn: -1,
      stop: null,
      thumbs: [],
    });
    this.stage.replaceChildren();
  }

  load(job, timeline, thumbs) {
    this.clear();
    Object.assign(this, {
      duration: timeline.duration,
      thumbs,
      playable: true,
      maps: timeline.attention ? attentionMaps(look(timeline.attention)) : null,
    });
    const media = el(job.has_video ? "video" : "audio", {
      id: "media",
      controls: true,
      preload: "auto",
      "aria-label": job.name,
      src: address(job.id, "/media"),
    });
    if (job.has_video) {
      media.playsInline = true;
      if (thumbs.length) media.poster = thumbs[0].url;
    }
    this.media = media;
    this.file = fileClock(media, timeline.player_start);
    this.message = el(
      "p",
      { className: "nothing", hidden: true },
      "This browser doesn’t play this file. Timeline, pictures and correction work without it.",
    );
    this.stage.classList.toggle("sound", !job.has_video);
    this.stage.closest(".upper").classList.toggle("sound", !job.has_video);
    this.stage.style.setProperty("--shape", "16 / 9");
    this.stage.append(media, this.still, ...(job.has_video ? [this.overlay] : []), this.message);
    this.still.hidden = true;
    this.listen(media);
    this.buildDeck(job);
    this.show();
  }

  listen(media) {
    media.addEventListener("error", () => {
      if (media !== this.media) return;
      this.playable = false;
      media.hidden = true;
      this.message.hidden = false;
      this.still.hidden = !this.thumbs.length;
      this.message.classList.toggle("low", this.thumbs.length > 0);
      this.show();
    });
    const tick = () => {
      if (media !== this.media) return;
      if (this.stop !== null && this.file.time >= this.stop) {
        media.pause();
        this.stop = null;
      }
      this.show();
      if (!media.paused && !media.ended) requestAnimationFrame(tick);
    };
    media.addEventListener("play", tick);
    media.addEventListener("loadedmetadata", () => {
      if (media.videoWidth)
        this.stage.style.setProperty("--shape", `${media.videoWidth} / ${media.videoHeight}`);
      this.placeOverlay();
    });
    for (const name of ["pause", "seeked", "timeupdate"])
      media.addEventListener(name, () => media === this.media && this.show());
  }

  buildDeck(job) {
    const look = button("attention", "Where the model looks (A)", () => this.toggleAttention(), {
      text: "Attention",
      id: "attention",
      "aria-pressed": "true",
    });
    byId("deck").replaceChildren(
      button(
        "previous",
        "Previous event (P)",
        () => this.dispatchEvent(new CustomEvent("step", { detail: -1 })),
        { id: "previous" },
      ),
      button("next", "Next event (N)", () => this.dispatchEvent(new CustomEvent("step", { detail: 1 })), {
        id: "next",
      }),
      ...(this.maps && job.has_video ? [look] : []),
    );
    look.setAttribute("aria-pressed", String(!this.plain));
  }

  get position() {
    return Math.min(this.playable ? this.file.time : this.virtual, this.duration);
  }
  words(t, decimals = 1) {
    return timeWords(t, decimals, this.duration >= 3600);
  }

  seek(t) {
    this.stop = null;
    this.virtual = Math.min(Math.max(0, t), this.duration);
    if (this.playable) this.file.seek(this.virtual);
    this.show(this.virtual);
  }

  toggle() {
    this.stop = null;
    if (!this.playable) return;
    if (this.media.paused) this.media.play().catch(() => {});
    else this.media.pause();
  }

  // Plays from one instant to another.
  span(start, end) {
    this.seek(start);
    if (!this.playable) return;
    this.stop = end;
    this.media.play().catch(() => {});
  }

  show(t = this.position) {
    byId("clock").textContent = this.words(t);
    if (!this.playable && this.thumbs.length) {
      const best = this.thumbs.reduce((a, b) => (Math.abs(b.time - t) < Math.abs(a.time - t) ? b : a));
      if (this.still.getAttribute("src") !== best.url) this.still.src = best.url;
    }
    this.drawAttention(t);
    this.dispatchEvent(new CustomEvent("time", { detail: t }));
  }

  drawAttention(t) {
    if (!this.maps || !this.overlay.isConnected) return;
    const index = this.maps.at(t);
    if (index !== this.drawn && index >= 0) this.maps.draw(this.overlay, (this.drawn = index));
  }

  placeOverlay() {
    // over the picture itself, not over the black bars beside it
    const picture = this.playable ? this.media : this.still;
    const w = picture?.videoWidth || picture?.naturalWidth || 0,
      h = picture?.videoHeight || picture?.naturalHeight || 0;
    this.overlay.hidden = !w || !h;
    if (this.overlay.hidden) return;
    const { clientWidth: across, clientHeight: down } = this.stage,
      scale = Math.min(across / w, down / h);
    const at = {
      width: w * scale,
      height: h * scale,
      left: (across - w * scale) / 2,
      top: (down - h * scale) / 2,
    };
    for (const [name, value] of Object.entries(at)) this.overlay.style[name] = `${value}px`;
  }

  toggleAttention() {
    this.plain = !this.plain;
    document.body.classList.toggle("plain", this.plain);
    byId("attention")?.setAttribute("aria-pressed", String(!this.plain));
  }
}
