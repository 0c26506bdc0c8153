sheets => {
  if (window !== window.top || globalThis.tintypeSheets) return;
  globalThis.tintypeSheets = sheets.map(text => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    return sheet;
  });
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, ...globalThis.tintypeSheets];
}
