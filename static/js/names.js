// Names of people while one is typed after an `@`: a list above the composer, which the server makes. The
// arrows choose, Enter or Tab takes, Esc closes.
import { attempt, make, room, user } from './page.js';

const PAUSE_MS = 80;

const composer = document.getElementById('composer');
const text = document.getElementById('composer-text');
const list = make('ul', { id: 'people', className: 'people-list', hidden: true });
const aloud = make('p', { className: 'hidden' });
/** The name for which there is a list, or will be, or was until it was closed. */
let looked;
let asking = null;
let timer = null;

/** The name that is being typed, if one is: what stands between an `@` and the cursor. */
function typed() {
  const before = text.value.slice(0, text.selectionStart);
  const name = before.match(/(?:^|[^\p{Ll}\p{Lu}\p{Nd}_@])@([\p{L}\p{M}\p{N}._-]{0,32})$/u)?.[1];
  return text.selectionStart === text.selectionEnd ? name : undefined;
}

/** Follows what is typed. Names that no longer fit go at once, others come when they are there. */
function look() {
  const name = typed();
  if (name === looked) return;
  looked = name;
  asking?.abort();
  clearTimeout(timer);
  if (name === undefined) return close();
  const fits = ({ dataset }) => dataset.name.toLowerCase().startsWith(name.toLowerCase());
  if (list.hidden || !Array.from(list.children).some(fits)) close();
  else {
    for (const option of Array.from(list.children)) if (!fits(option)) option.remove();
    if (!chosen()) choose(list.firstElementChild);
  }
  timer = setTimeout(() => ask(name).catch(() => {}), PAUSE_MS);
}

async function ask(name) {
  asking = window.AbortController && new AbortController();
  const answer = await fetch(`/rooms/${room}/people?q=${encodeURIComponent(name)}&as=${user}`, {
    headers: { Accept: 'text/html', 'HX-Request-Type': 'partial' }, signal: asking?.signal,
  });
  const people = answer.ok ? await answer.text() : '';
  // Gone on, sent or given up meanwhile.
  if (looked !== name || typed() !== name || document.activeElement !== text) return;
  const before = chosen()?.id;
  list.innerHTML = people;
  const count = list.children.length;
  if (!count) return close();
  list.hidden = false;
  text.setAttribute('aria-controls', list.id);
  aloud.textContent = count === 1 ? 'One name. Enter takes it.' : `${count} names. The arrows choose, Enter takes.`;
  choose(Array.from(list.children).find(({ id }) => id === before) ?? list.firstElementChild);
}

function close() {
  list.hidden = true;
  list.replaceChildren();
  aloud.textContent = '';
  text.removeAttribute('aria-activedescendant');
  text.removeAttribute('aria-controls');
}

/** Closes the list until something else is typed. */
function giveUp() {
  asking?.abort();
  clearTimeout(timer);
  looked = typed();
  close();
}

function chosen() {
  return list.querySelector('[aria-selected="true"]');
}

function choose(option) {
  chosen()?.setAttribute('aria-selected', 'false');
  option.setAttribute('aria-selected', 'true');
  option.scrollIntoView({ block: 'nearest' });
  text.setAttribute('aria-activedescendant', option.id);
}

/** Puts a name in the place of what was typed of it. */
function take(option) {
  const name = typed();
  if (name === undefined) return giveUp();
  const end = text.selectionStart;
  const goesOn = text.value[end] === ' ' ? 1 : 0;
  text.setRangeText(`${option.dataset.name} `, end - name.length, end + goesOn, 'end');
  giveUp();
  text.focus();
  text.dispatchEvent(new Event('input', { bubbles: true }));
}

function listen() {
  list.setAttribute('role', 'listbox');
  list.setAttribute('aria-label', 'People');
  aloud.setAttribute('role', 'status');
  text.setAttribute('aria-autocomplete', 'list');
  composer.append(list, aloud);
  text.addEventListener('input', look);
  text.addEventListener('click', look);
  text.addEventListener('keyup', ({ key }) => { if (/^(Arrow(Left|Right)|Home|End)$/.test(key)) look(); });
  text.addEventListener('blur', giveUp);
  // A message that was sent is not typed any more.
  composer.addEventListener('submit', () => setTimeout(giveUp));
  // Before the composer, to which Enter means something else.
  composer.addEventListener('keydown', (event) => {
    if (event.target !== text || list.hidden || event.isComposing || event.keyCode === 229) return;
    const options = Array.from(list.children);
    const at = options.indexOf(chosen());
    if (event.key === 'ArrowDown') choose(options[(at + 1) % options.length]);
    else if (event.key === 'ArrowUp') choose(options[(at + options.length - 1) % options.length]);
    else if ((event.key === 'Enter' || event.key === 'Tab') && !event.shiftKey && typed() === looked) take(chosen());
    else if (event.key === 'Escape') giveUp();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
  // The field keeps its focus.
  list.addEventListener('pointerdown', (event) => event.preventDefault());
  list.addEventListener('mousedown', (event) => event.preventDefault());
  list.addEventListener('click', ({ target }) => {
    const option = target.closest('[role=option]');
    if (option) take(option);
  });
}

attempt(listen);
