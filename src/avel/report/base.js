const avel = (() => { // what the scripts of all the report's pages share
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("avel-data").textContent);

  function address(held) { // of the media that a script element holds; the element goes
    const blob = new Blob([base64Bytes(held.textContent.trim())], { type: held.dataset.type });
    held.remove();
    return URL.createObjectURL(blob);
  }
  return { $, data, words: timeWords, address };
})();
