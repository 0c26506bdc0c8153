// Waits for what a page still shows too little of. Getters are taken from the
// prototypes, because a form or an image may stand in the place of a property of
// its name.
async (budget, all, wait, beyond, calm) => {
  const get = name => Object.getOwnPropertyDescriptor(Document.prototype, name).get.call(document);
  const of = (type, name, node) => Object.getOwnPropertyDescriptor(type.prototype, name).get.call(node);
  const end = performance.now() + budget, late = [];
  const left = () => Math.max(0, end - performance.now());
  // within waits for p, but no longer than what is left of the budget.
  const within = (what, p) => {
    let timer;
    const over = new Promise(done => { timer = setTimeout(() => { late.push(what); done(); }, left()); });
    return Promise.race([p, over]).finally(() => clearTimeout(timer));
  };
  const frame = () => new Promise(done => requestAnimationFrame(() => done()));
  // An image that has not come yet may have no size, and counts where it stands.
  const shown = image => {
    if (all) return true;
    const r = image.getBoundingClientRect();
    return r.bottom >= 0 && r.right >= 0 && r.top < innerHeight && r.left < innerWidth && image.checkVisibility();
  };
  const images = () => [...get('images')].filter(shown);
  const complete = image => image.complete ? undefined : new Promise(done => {
    image.addEventListener('load', done, {once: true});
    image.addEventListener('error', done, {once: true});
  });
  // Before the load, fonts.ready waits for it, even if no font is on its way.
  const fonts = () => get('readyState') === 'complete' || get('fonts').status === 'loading' ? get('fonts').ready : undefined;
  if (wait) {
    await within('frame', frame());
    if (all) for (const image of get('images')) if (image.loading === 'lazy') image.loading = 'eager';
    await Promise.all([
      within('images', Promise.all(images().map(async image => {
        await complete(image);
        await image.decode().catch(() => {});
      }))),
      within('fonts', fonts()),
    ]);
    if (calm && !await calm(Math.min(2000, left()))) late.push('animations');
  }
  // A background that is fixed to the viewport is drawn there and nowhere else:
  // one that a camera beyond sees goes with its element.
  const scrolls = () => of(Element, 'scrollHeight', get('documentElement')) > innerHeight;
  const inside = r => r.top >= 0 && r.left >= 0 && r.bottom <= innerHeight && r.right <= innerWidth;
  const box = e => Element.prototype.getBoundingClientRect.call(e);
  const inView = e => e === get('documentElement') || e === get('body') ? !scrolls() : inside(box(e)); // theirs is the page's
  const enough = performance.now() + 1000; // of a page of hundreds of thousands of elements
  const loosen = root => {
    const kind = root === document ? Document : ShadowRoot;
    let before = false;
    for (const e of kind.prototype.querySelectorAll.call(root, '*')) {
      if (performance.now() > enough) break;
      const shadow = of(Element, 'shadowRoot', e);
      if (shadow) loosen(shadow);
      const fixed = pseudo => getComputedStyle(e, pseudo).backgroundAttachment.includes('fixed');
      const own = fixed(), other = fixed('::before') || fixed('::after');
      if (!own && !other || inView(e)) continue;
      before ||= other;
      const type = [HTMLElement, SVGElement, MathMLElement].find(t => e instanceof t);
      if (own && type) of(type, 'style', e).setProperty('background-attachment', 'scroll', 'important');
    }
    if (!before) return;
    const sheet = new CSSStyleSheet();
    sheet.replaceSync('*::before, *::after {background-attachment: scroll !important}');
    of(kind, 'adoptedStyleSheets', root).push(sheet);
  };
  const part = selector => { // what is in view is seen as it is
    try {
      const e = Document.prototype.querySelector.call(document, selector);
      return e && inside(box(e));
    } catch { return false; }
  };
  if (beyond === true || beyond && !part(beyond)) loosen(document);
  return {
    title: String(get('title')).slice(0, 2000),
    unloaded: images().filter(i => (i.currentSrc || i.src) && !(i.complete && i.naturalWidth > 0)).length,
    late,
    framed: window.length > 0,
  };
}
