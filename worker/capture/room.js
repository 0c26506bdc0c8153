height => {
  // Room below the page, that its end can be scrolled to anywhere in the view:
  // what stands there would not be captured where it is. Zero takes it away.
  const root = Object.getOwnPropertyDescriptor(Document.prototype, 'documentElement').get.call(document);
  const get = (name) => Object.getOwnPropertyDescriptor(Element.prototype, name).get.call(root);
  for (const old of Element.prototype.querySelectorAll.call(root, ':scope > tintype-room')) Element.prototype.remove.call(old);
  if (!height) return;
  const room = Document.prototype.createElement.call(document, 'tintype-room');
  const style = {position: 'absolute', display: 'block', visibility: 'hidden', left: '0', top: get('scrollHeight') + 'px', width: '1px', height: height + 'px'};
  for (const [name, value] of Object.entries(style)) room.style.setProperty(name, value, 'important');
  Node.prototype.appendChild.call(root, room);
}
