// A reply: the message above it, shown over the composer until it is sent or given up.
import { make } from './page.js';

const composer = document.getElementById('composer');
const text = document.getElementById('composer-text');
let to = null;
let bar = null;

/** Begins a reply to the message of a row. */
export function replyTo(row) {
  giveUp();
  to = row.id.slice(2);
  const author = row.querySelector('.author').textContent;
  const body = row.querySelector('.body').innerText.trim().replace(/\s+/g, ' ').slice(0, 160);
  bar = make('p', { className: 'replying', id: 'replying' });
  const what = make('span', { dir: 'auto' });
  what.append('Reply to ', make('b', { textContent: author }), `: ${body}`);
  const cancel = make('button', { type: 'button', className: 'quiet', textContent: 'Cancel reply' });
  cancel.addEventListener('click', () => {
    giveUp();
    text.focus();
  });
  bar.append(what, cancel);
  composer.prepend(bar);
  text.setAttribute('aria-describedby', `${bar.id} ${text.getAttribute('aria-describedby') ?? ''}`.trim());
  text.focus();
}

/** Whether a reply is being written. */
export function isReplying() {
  return to !== null;
}

/** The number of the message that is replied to, if one is, which it is no longer then. */
export function takeReply() {
  const number = to;
  giveUp();
  return number;
}

/** Writes an ordinary message. */
export function giveUp() {
  if (bar) text.setAttribute('aria-describedby', text.getAttribute('aria-describedby').replace(`${bar.id} `, ''));
  bar?.remove();
  bar = null;
  to = null;
}
