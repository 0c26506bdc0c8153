// The frames of other origins, with their content boxes in CSS pixels of the
// document; those of this origin are looked into. far is one that stands out of
// view, and is not drawn for that. Methods and getters are taken from the
// prototypes, because a form or an image may stand in the place of one of its
// name.
() => {
  const parent = Object.getOwnPropertyDescriptor(Node.prototype, 'parentElement').get;
  const look = (doc, dx, dy) => [...Document.prototype.querySelectorAll.call(doc, 'iframe')].flatMap(f => {
    let own = null; // of this origin: such are drawn wherever they stand
    try { own = f.contentDocument; } catch { /* of another */ }
    const r = f.getBoundingClientRect(), s = getComputedStyle(f);
    const left = dx + r.left + f.clientLeft + parseFloat(s.paddingLeft), top = dy + r.top + f.clientTop + parseFloat(s.paddingTop);
    const width = f.clientWidth - parseFloat(s.paddingLeft) - parseFloat(s.paddingRight);
    const height = f.clientHeight - parseFloat(s.paddingTop) - parseFloat(s.paddingBottom);
    const straight = Math.abs(r.width - f.offsetWidth) < 1 && Math.abs(r.height - f.offsetHeight) < 1;
    const seen = width >= 1 && height >= 1 && f.checkVisibility({visibilityProperty: true});
    if (own) return straight && seen ? look(own, left, top) : [];
    const away = top + height <= 0 || left + width <= 0 || top >= innerHeight || left >= innerWidth;
    // What is fixed over it would be there once more.
    let over = away ? null : Document.prototype.elementFromPoint.call(document, left + width / 2, top + height / 2);
    while (over && getComputedStyle(over).position !== 'fixed') over = parent.call(over);
    return [{x: left + scrollX, y: top + scrollY, width, height, far: straight && seen && away, covered: !!over}];
  });
  return look(document, 0, 0);
}
