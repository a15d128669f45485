"use strict";
const avel = (() => { // what the scripts of all pages share
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("avel-data").textContent);

  const pad = (n) => String(n).padStart(2, "0");
  function words(seconds, decimals, hours) { // a time as players write it
    const scale = 10 ** decimals, ticks = Math.round(Math.max(0, seconds) * scale);
    const whole = Math.floor(ticks / scale), part = ticks % scale;
    const h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
    const head = hours ? `${h}:${pad(m)}` : String(m);
    return `${head}:${pad(s)}` + (decimals ? `.${String(part).padStart(decimals, "0")}` : "");
  }

  const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  function address(held) { // of the media that a script element holds; the element goes
    const blob = new Blob([bytes(held.textContent.trim())], { type: held.dataset.type });
    held.remove();
    return URL.createObjectURL(blob);
  }
  return { $, data, words, bytes, address };
})();
