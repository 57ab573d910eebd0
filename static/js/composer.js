// The composer: a field that keeps its draft and knows its limit, and a form that sends by the outbox.
import { toBottom } from './log.js';
import { open, send } from './outbox.js';
import { isTouched, log, make, room, submit, user } from './page.js';
import { takeReply } from './reply.js';
import { keep, stored } from './storage.js';
import { isLive } from './stream.js';

const composer = document.getElementById('composer');
const text = document.getElementById('composer-text');
const notice = document.getElementById('composer-notice');
const draftKey = `parlor:${user}:${room}:draft`;
const CHARS_MAX = Number(text.dataset.max);
// A longer draft is more than anybody types, and slow to show and to keep.
const DRAFT_MAX = 2 * CHARS_MAX;
const TYPING_EVERY_MS = 3_000;
const limit = `A message has at most ${numeral(CHARS_MAX)} characters.`;
const count = make('p', { id: 'composer-count', className: 'composer-count', hidden: true });
let toldTypingAt = 0;

notice.after(count);
text.setAttribute('aria-describedby', `${notice.id} ${count.id}`);
restoreDraft();
changed();

text.addEventListener('input', () => {
  complain('');
  changed();
  tellTyping();
});
// Browsers differ in which of these events comes first; each has the text that would come in.
text.addEventListener('paste', (event) => refuseLong(event, event.clipboardData?.getData('text/plain')));
text.addEventListener('drop', (event) => refuseLong(event, event.dataTransfer?.getData('text/plain')));
text.addEventListener('beforeinput', (event) => {
  // Typing may go beyond; it is counted.
  const isTyped = !event.inputType.startsWith('insertFrom') && (event.data?.length ?? 0) < 100;
  if (!isTyped) refuseLong(event, event.data ?? event.dataTransfer?.getData('text/plain'));
});
text.addEventListener('keydown', (event) => {
  // 229 is how Safari says that this Enter only ends the composing of a word.
  if (event.key !== 'Enter' || event.isComposing || event.keyCode === 229) return;
  // A keyboard on the screen has no Shift+Enter; there is a button beside it.
  if (!(event.ctrlKey || event.metaKey) && (event.shiftKey || isTouched())) return;
  event.preventDefault();
  submit(composer);
});
composer.addEventListener('submit', (event) => {
  // Nothing would bring back what was sent: the form does by itself what it does without scripts.
  if (!isLive()) {
    keep(draftKey, null);
    return;
  }
  event.preventDefault();
  text.focus();
  if (!text.value.trim()) return;
  if (isTooLong()) return complain(`${limit} Shorten it or send it in parts.`);
  send(text.value, takeReply());
  text.value = '';
  changed();
  complain('');
  toBottom();
});
open((body, says) => {
  text.value = text.value ? `${body}\n${text.value}` : body;
  changed();
  complain(says);
});

/** Follows what is in the field. */
function changed() {
  grow();
  tellLength();
  keep(draftKey, text.value.length <= DRAFT_MAX ? text.value : null);
}

/** As high as what is in it, where the style sheet cannot do that (field-sizing). */
function grow() {
  if (window.CSS?.supports?.('field-sizing', 'content')) return;
  text.style.height = 'auto';
  text.style.height = `${text.scrollHeight + 2}px`;
}

/** How many characters the server counts: an emoji's halves are one, and so are the two of a line's end. */
function lengthOf(value) {
  let length = 0;
  for (let at = 0; at < value.length; at += 1) {
    const code = value.charCodeAt(at);
    const isSecondHalf = code >= 0xdc00 && code < 0xe000;
    if (!isSecondHalf && !(code === 13 && value.charCodeAt(at + 1) === 10)) length += 1;
  }
  return length;
}

/** Whether the server would refuse it; it cuts off blank lines before and white space after. */
function isTooLong() {
  return text.value.length > CHARS_MAX && lengthOf(text.value.trimEnd().replace(/^\s*\n/, '')) > CHARS_MAX;
}

/** Says how long it is, once that may matter. */
function tellLength() {
  count.hidden = text.value.length < 0.9 * CHARS_MAX;
  if (count.hidden) return setInvalid(false);
  const isOver = isTooLong();
  count.textContent = `${numeral(lengthOf(text.value))} of ${numeral(CHARS_MAX)} characters`;
  count.classList.toggle('error', isOver);
  setInvalid(isOver);
}

function numeral(number) {
  return number.toLocaleString('en');
}

function setInvalid(isInvalid) {
  if (isInvalid) text.setAttribute('aria-invalid', 'true');
  else text.removeAttribute('aria-invalid');
}

/** Keeps out what would be too long: all of it, so that nobody sends a part without knowing. */
function refuseLong(event, coming = '') {
  const { selectionStart, selectionEnd, value } = text;
  if (value.length + coming.length <= CHARS_MAX) return;
  const before = lengthOf(value);
  const after = before - lengthOf(value.slice(selectionStart, selectionEnd)) + lengthOf(coming);
  if (after <= CHARS_MAX || after <= before) return;
  event.preventDefault();
  const length = numeral(lengthOf(coming));
  notice.textContent = `This text of ${length} characters was not put in. ${limit} Shorten it or send it in parts.`;
}

/** Brings back what was typed here before, if anybody can have typed that much. */
function restoreDraft() {
  if (text.value) return;
  const draft = stored(draftKey) ?? '';
  if (draft.length <= DRAFT_MAX) {
    text.value = draft;
    return;
  }
  text.value = draft.slice(0, CHARS_MAX).replace(/[\ud800-\udbff]$/, '');
  notice.textContent = `Your draft had ${numeral(draft.length)} characters; this is its start. ${limit}`;
}

/** Says what is wrong with what stands in the composer. */
function complain(what) {
  notice.textContent = what;
  setInvalid(Boolean(what));
}

/** Says now and then that something is being written. */
function tellTyping() {
  const now = Date.now();
  if (!text.value.trim() || now - toldTypingAt < TYPING_EVERY_MS || log.dataset.state !== 'stream') return;
  toldTypingAt = now;
  fetch(`/rooms/${room}/typing?as=${user}`, { method: 'POST' }).catch(() => {});
}
