// Called in the page's own world when a document begins, before any script of
// the page: Chromium tells of an error in no world but the one that it was
// thrown in. It keeps what nobody catches, and tells it to who asks by an event
// of a name that the page cannot know.
//
// The page can change all that it and we have in common. So nothing is looked
// up later: what is needed is taken now; no getter, iterator or prototype of the
// page's is run, by which it could see us; and no string of it is kept, but
// copies of a bounded length.
key => {
  'use strict';
  const {addEventListener, removeEventListener, dispatchEvent, CustomEvent, String, document, top} = window;
  const {apply, getOwnPropertyDescriptor, getPrototypeOf} = Reflect;
  const {stringify} = JSON, {hasOwn} = Object, {slice} = String.prototype, isError = Error.isError ?? (() => false);
  const getter = (type, name) => getOwnPropertyDescriptor(type.prototype, name).get;
  const target = getter(Event, 'target'), detail = getter(CustomEvent, 'detail');
  const message = getter(ErrorEvent, 'message'), reason = getter(PromiseRejectionEvent, 'reason');
  const domName = getter(DOMException, 'name'), domMessage = getter(DOMException, 'message');
  const kinds = [AggregateError, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError];
  const own = kinds.map(kind => kind.prototype), names = kinds.map(kind => kind.name);
  const most = 50, length = 2000;

  let all = '', count = 0;
  const cut = text => apply(slice, text, [0, length]);
  const note = text => {
    if (count++ < most) all += (all && ',') + stringify(cut(text)); // a copy: a slice would keep the whole
    if (count >= most) rest();
  };
  // Frames of the same origin tell the page's main frame.
  const tell = text => {
    if (window === top) return note(text);
    if (++count >= most) rest();
    apply(dispatchEvent, top, [new CustomEvent(key + '/tell', {__proto__: null, detail: cut(text)})]);
  };

  const data = (object, name) => {
    const p = getOwnPropertyDescriptor(object, name);
    return p && hasOwn(p, 'value') && typeof p.value === 'string' ? cut(p.value) : undefined;
  };
  const describe = value => {
    switch (typeof value) {
      case 'string': return cut(value);
      case 'undefined': case 'function': return typeof value;
      case 'object': break;
      default: return cut(String(value));
    }
    if (value === null) return 'null';
    if (!isError(value)) return 'Object';
    try { return `${apply(domName, value, [])}: ${cut(apply(domMessage, value, []))}`; } catch { /* none of the DOM's */ }
    let name = data(value, 'name');
    if (name === undefined) {
      const kind = getPrototypeOf(value);
      name = 'Error';
      for (let i = 0; i < own.length; i++) if (own[i] === kind) name = names[i];
    }
    const text = data(value, 'message');
    return text ? `${name}: ${text}` : name;
  };

  const thrown = e => {
    try { if (e.isTrusted && apply(target, e, []) === window) tell(apply(message, e, [])); } catch { /* a frame of another origin */ }
  };
  const rejected = e => {
    try { if (e.isTrusted) tell('Uncaught (in promise) ' + describe(apply(reason, e, []))); } catch { /* the same */ }
  };
  const told = e => note(apply(detail, e, []));
  const asked = () => apply(dispatchEvent, window, [new CustomEvent(key + '/told', {__proto__: null, detail: '[' + all + ']'})]);
  const rest = () => {
    apply(removeEventListener, window, ['error', thrown, true]);
    apply(removeEventListener, window, ['unhandledrejection', rejected, true]);
  };
  const watch = () => {
    if (count < most) {
      apply(addEventListener, window, ['error', thrown, true]);
      apply(addEventListener, window, ['unhandledrejection', rejected, true]);
    }
    if (window !== top) return;
    apply(addEventListener, window, [key + '/tell', told]);
    apply(addEventListener, window, [key + '/ask', asked]);
  };
  watch();
  // document.open takes all listeners from the window, and what the document
  // has in it.
  new MutationObserver(watch).observe(document, {childList: true});
}
