known => {
  // How many characters of the page's text show as an empty box, because neither
  // a font of the page nor one of the machine has them.
  // A form or an image may stand in the place of a property of its name, so they
  // are taken from the prototypes.
  const get = (type, name, node) => Object.getOwnPropertyDescriptor(type.prototype, name).get.call(node);
  const body = get(Document, 'body', document);
  if (!body) return 0;
  const text = get(Node, 'textContent', body);
  if (!/[^\0-\xff]/.test(text)) return 0; // always known, and soon seen: most pages end here
  const suspect = new RegExp('[^' + known + '\\p{M}\\p{Z}\\p{Cc}\\p{Cf}\\p{Cs}\\u115f\\u1160\\u2800\\u3164\\uffa0]', 'gu');
  if (!suspect.test(text)) return 0;
  const most = 4000, end = performance.now() + 100; // of a page that is nothing else
  const byFont = new Map(); // family → character → how often
  const texts = Document.prototype.createTreeWalker.call(document, body, NodeFilter.SHOW_TEXT);
  let n = 0;
  while (n < most && texts.nextNode() && performance.now() < end) {
    const found = texts.currentNode.data.match(suspect);
    if (!found) continue;
    const parent = texts.currentNode.parentElement;
    if (!parent || !Element.prototype.checkVisibility.call(parent, {visibilityProperty: true})) continue;
    const style = getComputedStyle(parent), font = style.fontStyle + ' ' + style.fontWeight + ' 16px ' + style.fontFamily;
    let seen = byFont.get(font);
    if (!seen) byFont.set(font, seen = new Map());
    for (const c of found) {
      if (!seen.has(c)) n++;
      seen.set(c, (seen.get(c) || 0) + 1);
    }
  }
  const side = 24, row = 64; // px of a cell, cells of a row
  const canvas = new OffscreenCanvas(side * row, side), at = canvas.getContext('2d', {willReadFrequently: true});
  const words = side * side;
  let missing = 0;
  for (const [font, seen] of byFont) {
    at.font = font;
    at.textBaseline = 'middle';
    const draw = list => {
      at.clearRect(0, 0, canvas.width, side);
      list.forEach((c, i) => {
        at.save();
        at.beginPath();
        at.rect(i * side, 0, side, side);
        at.clip();
        at.fillText(c, i * side + 2, side / 2);
        at.restore();
      });
      return list.map((_, i) => new Uint32Array(at.getImageData(i * side, 0, side, side).data.buffer));
    };
    // What no font has is drawn as the box of the family's first font; U+0378 is
    // no character, and never will be in a font.
    const [box] = draw(['\u0378']);
    const list = [...seen.keys()];
    for (let i = 0; i < list.length; i += row) {
      draw(list.slice(i, i + row)).forEach((cell, k) => {
        for (let w = 0; w < words; w++) if (cell[w] !== box[w]) return;
        missing += seen.get(list[i + k]);
      });
      if (performance.now() > end) return missing;
    }
  }
  return missing;
}
