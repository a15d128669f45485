// What the pages of a report and the page of `avel serve` share: times in words, a ruler's steps, the
// attention's drawing. A module there; the report's scripts have it before them, without `export`.

const pad = (n) => String(n).padStart(2, "0");

// A time as players write it: "1:07", with hours only where the file has them.
export function timeWords(seconds, decimals, hours) {
  const scale = 10 ** decimals, ticks = Math.round(Math.max(0, seconds) * scale);
  const whole = Math.floor(ticks / scale), part = ticks % scale;
  const h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
  const head = hours ? `${h}:${pad(m)}` : String(m);
  return `${head}:${pad(s)}` + (decimals ? `.${String(part).padStart(decimals, "0")}` : "");
}

const rounds = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600];

// Seconds between two marks of a ruler that is `width` pixels wide.
export function rulerStep(duration, width) {
  const most = Math.max(2, width / 76);
  return rounds.find((r) => duration / r <= most) ?? 43200;
}

// The file's own clock at a player. The player calls the file's first instant `zero`, since browsers
// keep the start of a container that begins late. Chromium learns how long such an .mp4 lasts only
// while it reads it, and ends a seek early until then: the seek goes on as the length grows.
export function fileClock(media, zero) {
  let wanted = null, length = 0;
  const go = (t) => {
    length = media.duration;
    media.currentTime = t;
  };
  const short = () => wanted !== null && wanted - media.currentTime > 0.05;
  media.addEventListener("seeking", () => { // somewhere else, by the player's own controls
    const aim = Math.min(wanted ?? 0, length || Infinity);
    if (wanted !== null && Math.abs(media.currentTime - aim) > 0.25) wanted = null;
  });
  media.addEventListener("seeked", () => {
    if (short() && media.duration > length + 1e-3) go(wanted);
    else if (!short()) wanted = null;
  });
  media.addEventListener("durationchange", () => {
    if (short() && !media.seeking && length && media.duration > length + 1e-3) go(wanted);
  });
  return {
    get time() {
      return Math.max(0, media.currentTime - zero);
    },
    seek(seconds) {
      wanted = zero > 0 ? seconds + zero : null;
      go(seconds + zero);
    },
  };
}

// Attention maps: cells blended by a Gaussian, drawn from clear violet to pale yellow.
const FINE = 48;
const stops = [[40, 10, 110, 0], [120, 25, 140, 120], [240, 90, 60, 200], [255, 214, 74, 235], [255, 251, 208, 255]];
const ramp = Array.from({ length: 256 }, (_, v) => {
  const x = (v / 255) * (stops.length - 1), k = Math.min(Math.floor(x), stops.length - 2);
  return stops[k].map((c, i) => c + (stops[k + 1][i] - c) * (x - k));
});

function weights(count) { // (FINE, count): how much each cell counts at each fine place
  return Array.from({ length: FINE }, (_, i) => {
    const at = ((i + 0.5) / FINE) * count - 0.5;
    const w = Array.from({ length: count }, (_, k) => Math.exp(-((at - k) ** 2) / 0.5));
    const sum = w.reduce((a, b) => a + b);
    return w.map((x) => x / sum);
  });
}

export const base64Bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

// `look` is {rows, columns, seconds, data}: the size of a map, how long each holds, base64 bytes.
export function attentionMaps(look) {
  const cells = base64Bytes(look.data);
  const count = Math.floor(cells.length / (look.rows * look.columns));
  const across = weights(look.columns), down = weights(look.rows);
  const at = (t) => Math.min(Math.floor(t / look.seconds + 1e-6), count - 1);
  function draw(canvas, index) {
    canvas.width = canvas.height = FINE;
    const pen = canvas.getContext("2d"), image = pen.createImageData(FINE, FINE);
    const first = index * look.rows * look.columns;
    for (let y = 0; y < FINE; y++) {
      const line = Array.from({ length: look.columns }, (_, c) => {
        let sum = 0;
        for (let r = 0; r < look.rows; r++) sum += down[y][r] * cells[first + r * look.columns + c];
        return sum;
      });
      for (let x = 0; x < FINE; x++) {
        let value = 0;
        for (let c = 0; c < look.columns; c++) value += across[x][c] * line[c];
        image.data.set(ramp[Math.min(255, Math.round(value))], 4 * (y * FINE + x));
      }
    }
    pen.putImageData(image, 0, 0);
  }
  return { at, draw, count };
}
