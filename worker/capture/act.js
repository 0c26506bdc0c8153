// Does one thing to the page, or looks for something on it. Getters and methods
// are taken from the prototypes, because a form or an image may stand in the
// place of one of its name.
async (what, selector, arg) => {
  const get = (type, name, node) => Object.getOwnPropertyDescriptor(type.prototype, name).get.call(node);
  const call = (type, name, node, ...args) => type.prototype[name].call(node, ...args);
  const wait = ms => new Promise(done => setTimeout(done, ms));
  const frame = () => Promise.race([new Promise(done => requestAnimationFrame(() => done())), wait(200)]);
  const boxes = element => [...call(Element, 'getClientRects', element)].filter(r => r.width > 0 && r.height > 0);
  const shown = element => call(Element, 'checkVisibility', element, {visibilityProperty: true}) && boxes(element).length > 0;
  const first = () => call(Document, 'querySelector', document, selector);
  const all = () => [...call(Document, 'querySelectorAll', document, selector)];
  const bring = (element, block) => call(Element, 'scrollIntoView', element, {block, inline: 'nearest', behavior: 'instant'});
  // patiently asks again for as long as arg says, in ms, while there is nothing.
  const patiently = async ask => {
    for (const end = performance.now() + arg;;) {
      const found = ask();
      if (found || performance.now() >= end) return found;
      await wait(Math.min(50, Math.max(1, end - performance.now())));
    }
  };
  // A point of the element in the window that hits it, or what lies in it; else its middle.
  const target = element => {
    const r = boxes(element)[0];
    const left = Math.max(r.left, 0), right = Math.min(r.right, innerWidth), top = Math.max(r.top, 0), bottom = Math.min(r.bottom, innerHeight);
    const at = (x, y) => ({x: left + (right - left) * x, y: top + (bottom - top) * y});
    const hits = p => { const hit = call(Document, 'elementFromPoint', document, p.x, p.y); return hit && call(Node, 'contains', element, hit); };
    const points = [.5, .25, .75].flatMap(y => [.5, .25, .75].map(x => at(x, y)));
    const p = points.find(hits) ?? points[0], view = visualViewport;
    return {x: (p.x - view.offsetLeft) * view.scale, y: (p.y - view.offsetTop) * view.scale};
  };
  try {
    switch (what) {
    case 'dress': { // adds what dress.js did not, or what the page has thrown out since
      if (!Object.hasOwn(globalThis, 'tintypeSheets')) globalThis.tintypeSheets = (arg.adopted ?? []).map(text => {
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(text);
        return sheet;
      });
      const worn = get(Document, 'adoptedStyleSheets', document), out = globalThis.tintypeSheets.filter(sheet => !worn.includes(sheet));
      if (out.length) worn.push(...out);
      if (selector) first(); // throws where it is none
      for (const text of arg.elements ?? []) { // with @import, which only an element obeys
        const style = call(Document, 'createElement', document, 'style');
        const loaded = new Promise(done => { style.onload = style.onerror = done; });
        style.textContent = text;
        call(Element, 'append', get(Document, 'head', document) ?? get(Document, 'documentElement', document), style);
        if (style.sheet) await Promise.race([loaded, wait(5000)]);
      }
      return {found: true};
    }
    case 'frame':
      await frame();
      await wait(0);
      return {found: true};
    case 'aim': {
      const element = await patiently(() => [first()].find(e => e && shown(e)));
      if (!element) return {found: false};
      const x = scrollX, y = scrollY, inside = boxes(element)[0];
      if (inside.top < 0 || inside.left < 0 || inside.bottom > innerHeight || inside.right > innerWidth) {
        bring(element, 'nearest');
        await frame();
      }
      if (!get(Node, 'isConnected', element) || !boxes(element).length) return {found: false};
      return {found: true, ...target(element), back: {x, y}, here: {x: scrollX, y: scrollY}};
    }
    case 'back': // unless the page has scrolled since
      if (scrollX === arg.here.x && scrollY === arg.here.y) scrollTo({left: arg.back.x, top: arg.back.y, behavior: 'instant'});
      return {found: true};
    case 'scroll': {
      const element = await patiently(first);
      if (element) bring(element, 'start');
      await frame();
      return {found: !!element};
    }
    case 'top':
      scrollTo({top: arg, behavior: 'instant'});
      await frame();
      return {found: true};
    case 'come':
      return {found: await patiently(() => all().some(shown))};
    case 'leave':
      return {found: await patiently(() => !all().some(shown))};
    }
  } catch (e) {
    if (e instanceof DOMException && e.name === 'SyntaxError') return {found: false, bad: true};
    throw e;
  }
}
