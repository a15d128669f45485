const avel = (() => { // shared by the scripts of all pages of the report
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("avel-data").textContent);

  function address(element) { // a blob address of the media in a script element, which is removed
    const blob = new Blob([base64Bytes(element.textContent.trim())], { type: element.dataset.type });
    element.remove();
    return URL.createObjectURL(blob);
  }
  return { $, data, words: timeWords, address };
})();
