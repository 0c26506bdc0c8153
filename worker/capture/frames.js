// The frames of other origins, with their content boxes in CSS pixels of the
// document. far is one that stands out of view, and is not drawn for that.
// Methods and getters are taken from the prototypes, because a form or an image
// may stand in the place of one of its name.
() => [...Document.prototype.querySelectorAll.call(document, 'iframe')].map(f => {
  const parent = Object.getOwnPropertyDescriptor(Node.prototype, 'parentElement').get;
  let own = null; // of this origin: such are drawn wherever they stand
  try { own = f.contentDocument; } catch { /* of another */ }
  const r = f.getBoundingClientRect(), s = getComputedStyle(f);
  const left = f.clientLeft + parseFloat(s.paddingLeft), top = f.clientTop + parseFloat(s.paddingTop);
  const width = f.clientWidth - parseFloat(s.paddingLeft) - parseFloat(s.paddingRight);
  const height = f.clientHeight - parseFloat(s.paddingTop) - parseFloat(s.paddingBottom);
  const straight = Math.abs(r.width - f.offsetWidth) < 1 && Math.abs(r.height - f.offsetHeight) < 1;
  const away = r.bottom <= 0 || r.right <= 0 || r.top >= innerHeight || r.left >= innerWidth;
  const seen = width >= 1 && height >= 1 && f.checkVisibility({visibilityProperty: true});
  // What is fixed over it would be there once more.
  let over = away ? null : Document.prototype.elementFromPoint.call(document, r.left + r.width / 2, r.top + r.height / 2);
  while (over && getComputedStyle(over).position !== 'fixed') over = parent.call(over);
  return {
    x: r.left + left + scrollX, y: r.top + top + scrollY, width, height,
    far: !own && straight && seen && away, covered: !!over,
  };
})
