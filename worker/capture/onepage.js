// Makes a document fit for one long page: step "paper" sets its paper and takes
// out its page breaks; "look" notes how high everything is; "freeze" keeps at
// that height what has another one since, because the viewport has.
(step, paper) => {
  const elements = () => [...Document.prototype.querySelectorAll.call(document, 'body, body *')];
  const height = e => Element.prototype.getBoundingClientRect.call(e).height;
  switch (step) {
    case 'paper': {
      const sheet = new CSSStyleSheet(), sheets = Object.getOwnPropertyDescriptor(Document.prototype, 'adoptedStyleSheets');
      sheet.replaceSync(`@page { ${paper} }
        *, *::before, *::after { break-before: auto !important; break-after: auto !important; break-inside: auto !important; page: auto !important; }`);
      sheets.set.call(document, [...sheets.get.call(document), sheet]);
      return 0;
    }
    case 'look':
      globalThis.tintypeHeights = new Map(elements().map(e => [e, height(e)]));
      return 0;
  }
  const was = globalThis.tintypeHeights, moved = new Set(), above = new Set();
  for (const [e, h] of was) if (Math.abs(height(e) - h) > 0.5) moved.add(e);
  const parent = Object.getOwnPropertyDescriptor(Node.prototype, 'parentNode').get, style = Object.getOwnPropertyDescriptor(HTMLElement.prototype, 'style').get;
  for (const e of moved) for (let p = parent.call(e); p && !above.has(p); p = parent.call(p)) above.add(p);
  let frozen = 0;
  for (const e of moved) {
    if (above.has(e) || !(e instanceof HTMLElement)) continue; // what moved in it comes first
    const own = style.call(e);
    own.setProperty('box-sizing', 'border-box', 'important');
    for (const name of ['height', 'min-height', 'max-height']) own.setProperty(name, was.get(e) + 'px', 'important');
    frozen++;
  }
  return frozen;
}
