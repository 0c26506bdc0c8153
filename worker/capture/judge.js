// Holds the page against the job's rules. Getters are taken from the prototypes,
// because a form or an image may stand in the place of a property of its name.
(present, contains, lacks) => {
  const get = (type, name, node) => Object.getOwnPropertyDescriptor(type.prototype, name).get.call(node);
  const seen = () => {
    const root = get(Document, 'documentElement', document), body = get(Document, 'body', document);
    return body ? get(HTMLElement, 'innerText', body) : root ? get(Node, 'textContent', root) : '';
  };
  // Text as one sees it, with every gap of it one blank.
  const gapless = text => String(text).replace(/\s+/g, ' ').trim();
  let text;
  const holds = part => (text ??= gapless(seen())).includes(gapless(part));
  try {
    return {
      present: !!present && Document.prototype.querySelector.call(document, present) !== null,
      contains: contains.findIndex(holds),
      missing: lacks.findIndex(part => !holds(part)),
    };
  } catch (e) {
    if (e instanceof DOMException && e.name === 'SyntaxError') return {bad: true, contains: -1, missing: -1};
    throw e;
  }
}
