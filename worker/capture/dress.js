sheets => {
  if (window !== window.top || Object.hasOwn(globalThis, 'tintypeSheets')) return;
  globalThis.tintypeSheets = sheets.map(text => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    return sheet;
  });
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, ...globalThis.tintypeSheets];
}
