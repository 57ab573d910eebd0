// What can be done to a message: a toolbar on the row that is pointed at or has the focus, and keys. The
// page of the message has the same for everybody else.
import './changes.js';
import { isTouched, attempt, log, make, room, startOver, user } from './page.js';
import { replyTo, isReplying, giveUp } from './reply.js';

const QUICK = ['👍', '❤️', '😂'];
/** The name of deleted accounts. */
const FORMER = 'former member';
const HOLD_MS = 500;
const SWIPE_PX = 64;
const text = document.getElementById('composer-text');
const notice = document.getElementById('composer-notice');
/** One's own reactions, `42 👍`. */
const own = new Set((document.body.dataset.reacted ?? '').split(',').filter(Boolean));
let bar = null;

const addressOf = (row) => row.querySelector('.time').getAttribute('href');
const isOwn = (row) => row.dataset.author === user;
const isDeleted = (row) => Boolean(row.querySelector('.deleted'));

/** Asks the server; says what it refused, and whether it went well. */
async function ask(method, path, fields) {
  const body = fields && new URLSearchParams(fields);
  try {
    const answer = await fetch(`${path}?as=${user}`, { method, body, headers: { Accept: 'application/json' } });
    if (answer.status === 401) startOver();
    if (answer.ok) return { ok: true, message: answer.status === 200 ? await answer.json() : null };
    const problem = await answer.json();
    return { ok: false, status: answer.status, says: problem.detail, message: problem.message };
  } catch {
    return { ok: false, says: 'The server does not answer. Try again in a moment.' };
  }
}

function complain({ ok, says }) {
  notice.textContent = ok ? '' : says;
}

function button(label, says, action) {
  const made = make('button', { type: 'button', textContent: label, title: says });
  if (label !== says) made.setAttribute('aria-label', says);
  made.addEventListener('click', action);
  return made;
}

/** Shows the toolbar on a row. */
function showBar(row) {
  if (bar?.parentElement === row) return;
  hideBar();
  if (!row || isDeleted(row) || row.querySelector('.editing')) return;
  bar = make('div', { className: 'toolbar' });
  bar.setAttribute('role', 'toolbar');
  bar.setAttribute('aria-label', 'This message');
  for (const emoji of QUICK) bar.append(button(emoji, `React with ${emoji}`, () => react(row, emoji)));
  bar.append(button('+', 'Another reaction', () => pick(row)), button('Reply', 'Reply', () => replyTo(row)));
  const author = row.querySelector('.author')?.textContent;
  if (!isOwn(row) && !room.startsWith('@') && author !== FORMER) bar.append(button('Message', `Message ${author}`, () => writeTo(author)));
  if (isOwn(row)) bar.append(button('Edit', 'Edit', () => edit(row)), button('Delete', 'Delete', () => askToDelete(row)));
  row.append(bar);
}

function hideBar() {
  const row = bar?.parentElement;
  if (bar?.contains(document.activeElement)) row.focus({ preventScroll: true });
  bar?.remove();
  bar = null;
}

/** Leads to the conversation with somebody. */
function writeTo(name) {
  const form = make('form', { method: 'post', action: `/directs?as=${user}`, hidden: true });
  form.append(make('input', { type: 'hidden', name: 'with', value: name }));
  document.body.append(form);
  form.submit();
}

/** Puts a reaction on, or takes one's own off. */
async function react(row, emoji) {
  const key = `${row.id.slice(2)} ${emoji}`;
  const isOn = own.has(key);
  const path = `${addressOf(row)}/reactions/${encodeURIComponent(emoji)}`;
  const answer = await ask(isOn ? 'DELETE' : 'PUT', path);
  complain(answer);
  if (!answer.ok) return;
  if (isOn) own.delete(key);
  else own.add(key);
  mark(document.getElementById(row.id));
}

/** Shows which of a row's reactions are one's own, and who put them there. */
function mark(row) {
  for (const one of row?.querySelectorAll?.('.reactions button') ?? []) {
    const isMine = own.has(`${row.id.slice(2)} ${one.value}`);
    one.setAttribute('aria-pressed', String(isMine));
    if (one.title) one.setAttribute('aria-label', `${one.textContent}: ${one.title}`);
  }
}

/** Lets one choose among all emoji, by name. */
function pick(row) {
  const dialog = document.getElementById('emoji');
  if (!dialog?.showModal) return location.assign(addressOf(row));
  const list = dialog.querySelector('.emoji-list');
  const field = dialog.querySelector('input');
  const find = async () => {
    const asked = field.value;
    const answer = await fetch(`/emoji?q=${encodeURIComponent(asked)}`, { headers: { 'HX-Request-Type': 'partial' } });
    if (answer.ok && asked === field.value) list.innerHTML = await answer.text();
  };
  field.value = '';
  field.oninput = () => find().catch(() => {});
  dialog.onclick = ({ target }) => {
    const chosen = target.closest('button');
    if (!chosen) return;
    dialog.close();
    if (chosen.dataset.emoji) react(row, chosen.dataset.emoji);
  };
  dialog.onsubmit = (event) => {
    event.preventDefault();
    list.querySelector('[data-emoji]')?.click();
  };
  dialog.onclose = () => document.getElementById(row.id)?.focus();
  find().catch(() => {});
  dialog.showModal();
}

/** Edits in place. Nothing that was typed is lost: what is refused stays in the field. */
async function edit(row) {
  const address = addressOf(row);
  const { ok, message, says } = await ask('GET', address);
  if (!ok || message?.body === undefined) return complain({ ok: false, says: says ?? 'This message was deleted.' });
  hideBar();
  let rev = message.rev ?? 0;
  const shown = row.querySelector('.body');
  const form = make('form', { className: 'editing' });
  const field = make('textarea', { value: message.body, rows: 1, dir: 'auto' });
  field.setAttribute('aria-label', 'Edit the message');
  const error = make('p', { className: 'error' });
  error.setAttribute('role', 'alert');
  const cancel = button('Cancel', 'Cancel', () => done());
  cancel.className = 'quiet';
  form.append(field, error, make('button', { className: 'primary', textContent: 'Save' }), cancel);
  shown.hidden = true;
  shown.after(form);
  field.focus();
  field.setSelectionRange(field.value.length, field.value.length);
  const done = () => {
    form.remove();
    shown.hidden = false;
    (document.getElementById(row.id) ?? text).focus();
  };
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const answer = await ask('PATCH', address, { body: field.value, rev });
    if (answer.ok) return done();
    if (answer.message) {
      rev = answer.message.rev;
      error.textContent = `${answer.says} It says now: ${answer.message.body}`;
    } else error.textContent = answer.says;
  });
  field.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') done();
    else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== 229 && !isTouched()) {
      event.preventDefault();
      form.requestSubmit();
    } else return;
    event.stopPropagation();
  });
}

function askToDelete(row) {
  const dialog = document.getElementById('delete');
  if (!dialog?.showModal) return location.assign(addressOf(row));
  dialog.onclose = async () => {
    if (dialog.returnValue === 'delete') complain(await ask('DELETE', addressOf(row)));
    document.getElementById(row.id)?.focus();
  };
  dialog.returnValue = '';
  dialog.showModal();
}

/** On a phone a row is held for its toolbar, and swiped to the right for a reply. */
function listenToFingers(rowOf) {
  let holding = null;
  let swiped = null;
  const pull = (row, by) => { row.style.transform = by ? `translateX(${by}px)` : ''; };
  const on = (what, listener) => log.addEventListener(what, listener, { passive: true });
  const end = () => {
    clearTimeout(holding);
    if (swiped) pull(swiped.row, 0);
  };
  on('touchstart', (event) => {
    end();
    const row = rowOf(event);
    const [{ clientX, clientY }] = event.touches;
    // Code and other wide things are moved themselves.
    const isOne = row && event.touches.length === 1 && !event.target.closest('pre, .toolbar, .editing');
    swiped = isOne ? { row, x: clientX, y: clientY, by: 0 } : null;
    holding = setTimeout(() => row?.focus({ preventScroll: true }), HOLD_MS);
  });
  on('touchmove', ({ touches: [{ clientX, clientY }] }) => {
    clearTimeout(holding);
    if (!swiped) return;
    const [x, y] = [clientX - swiped.x, Math.abs(clientY - swiped.y)];
    swiped.by = x > 2 * y ? Math.min(Math.max(x, 0), 1.25 * SWIPE_PX) : 0;
    pull(swiped.row, swiped.by);
  });
  on('touchcancel', end);
  on('touchend', () => {
    end();
    if (swiped?.by >= SWIPE_PX && !isDeleted(swiped.row)) replyTo(swiped.row);
    swiped = null;
  });
}

function listen() {
  if (!log || !text) return;
  const rowOf = ({ target }) => target.closest?.('#log > .message');
  log.addEventListener('pointerover', (event) => { if (event.pointerType === 'mouse') showBar(rowOf(event)); });
  log.addEventListener('pointerleave', () => { if (!bar?.parentElement?.contains(document.activeElement)) hideBar(); });
  log.addEventListener('focusin', (event) => showBar(rowOf(event)));
  document.addEventListener('focusin', ({ target }) => { if (!log.contains(target)) hideBar(); });
  listenToFingers(rowOf);
  log.addEventListener('submit', (event) => {
    if (!event.target.matches('.reactions')) return;
    event.preventDefault();
    react(rowOf(event), event.submitter.value);
  });
  document.addEventListener('keydown', (event) => {
    if (document.querySelector('dialog[open]') || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = rowOf(event);
    if (event.target === text && !text.value) {
      const rows = Array.from(log.querySelectorAll('.message'));
      const last = event.key === 'ArrowUp' && rows.reverse().find((one) => isOwn(one) && !isDeleted(one));
      if (last) edit(last);
      else if (event.key === 'Escape' && isReplying()) giveUp();
      else return;
    } else if (row && event.target === row && !isDeleted(row)) {
      if (event.key === 'r') replyTo(row);
      else if (event.key === '+') pick(row);
      else if (event.key === 'e' && isOwn(row)) edit(row);
      else if (event.key === 'd' && isOwn(row)) askToDelete(row);
      else return;
    } else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  });
  log.querySelectorAll('.message').forEach(mark);
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) addedNodes.forEach((row) => mark(row));
  }).observe(log, { childList: true });
}

attempt(listen);
