// The page's text as one sees it. innerText is that (HTML, "rendered text
// collection steps"), but leaves shadow trees out; where there are open ones,
// what holds none of them is still read by it, and the rest as it would.
// Getters are taken from the prototypes, because a form or an image may stand in
// the place of a property of its name.
() => {
  const getter = (type, name) => { const g = Object.getOwnPropertyDescriptor(type.prototype, name).get; return node => g.call(node); };
  const root = getter(Document, 'documentElement')(document), body = getter(Document, 'body')(document);
  const kind = getter(Node, 'nodeType'), textOf = getter(Node, 'textContent'), innerText = getter(HTMLElement, 'innerText');
  if (!root) return '';
  if (!body) return textOf(root);
  const kidsOf = getter(Node, 'childNodes'), parentOf = getter(Node, 'parentNode'), before = getter(Element, 'previousElementSibling');
  const shadowOf = getter(Element, 'shadowRoot'), hostOf = getter(ShadowRoot, 'host'), slotOf = getter(Element, 'assignedSlot'), nameOf = getter(Element, 'localName');
  const all = (tree, selector) => (kind(tree) === 9 ? Document : DocumentFragment).prototype.querySelectorAll.call(tree, selector);

  // What has a shadow tree below it, or is a slot, must be gone through.
  const mixed = new Set();
  const mark = e => {
    while (e && kind(e) !== 9 && !mixed.has(e)) {
      if (kind(e) === 1) mixed.add(e);
      e = kind(e) === 1 ? slotOf(e) || parentOf(e) : hostOf(e);
    }
  };
  const trees = [document];
  for (const tree of trees) for (const e of all(tree, '*')) {
    const shadow = shadowOf(e);
    if (!shadow) continue;
    trees.push(shadow);
    mark(e);
    for (const slot of all(shadow, 'slot')) mark(slot);
  }
  if (!mixed.size) return innerText(body);

  const parts = [];
  let due = 0, last = '\n', loose = false; // line breaks to come; the last character so far; it is a blank that may go
  const gap = n => { due = Math.max(due, n); };
  const say = (text, folds) => {
    if (folds) {
      text = text.replace(/[ \t\n\r\f]+/g, ' ');
      if (due || /\s/.test(last)) text = text.replace(/^ /, '');
    }
    if (!text) return;
    if (due && parts.length) {
      if (loose) parts[parts.length - 1] = parts[parts.length - 1].replace(/ $/, '');
      parts.push('\n'.repeat(due));
    }
    due = 0;
    parts.push(text);
    last = text.at(-1);
    loose = folds && last === ' ';
  };
  const cased = {uppercase: s => s.toUpperCase(), lowercase: s => s.toLowerCase(), capitalize: s => s.replace(/(^|\s)\S/gu, c => c.toUpperCase())};
  const unseen = new Set(['title', 'desc', 'metadata', 'defs', 'style', 'script']);
  const children = e => {
    const shadow = shadowOf(e);
    if (shadow) return kidsOf(shadow);
    const given = e instanceof HTMLSlotElement ? e.assignedNodes() : [];
    return given.length ? given : kidsOf(e);
  };
  const walk = (node, around, depth) => {
    if (kind(node) === 3) {
      if (around.visibility === 'visible') say((cased[around.textTransform] || String)(textOf(node)), /^(normal|nowrap)/.test(around.whiteSpace));
      return;
    }
    if (kind(node) !== 1) return;
    const style = getComputedStyle(node), display = style.display;
    if (!display || display === 'none') return; // what no slot takes has none at all
    if (nameOf(node) === 'br') return say('\n', false);
    const breaks = nameOf(node) === 'p' ? 2 : /^(inline|contents|ruby|table-cell|table-column)/.test(display) ? 0 : 1;
    if (display === 'table-cell' && before(node)) say('\t', false);
    gap(breaks);
    if (node instanceof HTMLElement && (!mixed.has(node) || depth > 400)) say(innerText(node), false);
    else if ((style.contentVisibility !== 'hidden' || /^(inline|contents)$/.test(display)) && !unseen.has(nameOf(node))) for (const kid of children(node)) walk(kid, style, depth + 1);
    gap(breaks);
  };
  walk(body, null, 0);
  if (loose) parts.push(parts.pop().replace(/ $/, ''));
  return parts.join('');
}
