// Names of people while one is typed after an `@`: a list above the composer, which the server makes. The
// arrows choose, Enter or Tab takes, Esc closes.
import { attempt, make, room, user } from './page.js';

const composer = document.getElementById('composer');
const text = document.getElementById('composer-text');
const list = make('ul', { id: 'people', className: 'people-list', hidden: true });
const aloud = make('p', { className: 'hidden' });
let asked = null;

/** The name that is being typed, if one is: what stands between an `@` and the cursor. */
function typed() {
  const before = text.value.slice(0, text.selectionStart);
  const name = before.match(/(?:^|[^\p{Ll}\p{Lu}\p{Nd}_@])@([\p{L}\p{M}\p{N}._-]{0,32})$/u)?.[1];
  return text.selectionStart === text.selectionEnd ? name : undefined;
}

async function offer() {
  const name = typed();
  if (name === asked) return;
  asked = name;
  if (name === undefined) return close();
  const answer = await fetch(`/rooms/${room}/people?q=${encodeURIComponent(name)}&as=${user}`, {
    headers: { Accept: 'text/html', 'HX-Request-Type': 'partial' },
  });
  if (asked !== name) return;
  if (!answer.ok) return close();
  list.innerHTML = await answer.text();
  const count = list.children.length;
  if (!count) return close();
  list.hidden = false;
  text.setAttribute('aria-controls', list.id);
  aloud.textContent = count === 1 ? 'One name. Enter takes it.' : `${count} names. The arrows choose, Enter takes.`;
  choose(list.firstElementChild);
}

function close() {
  list.hidden = true;
  list.replaceChildren();
  aloud.textContent = '';
  text.removeAttribute('aria-activedescendant');
  text.removeAttribute('aria-controls');
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
  const end = text.selectionStart;
  const start = end - typed().length;
  const name = `${option.dataset.name} `;
  const goesOn = text.value[end] === ' ' ? 1 : 0;
  text.setRangeText(name, start, end + goesOn, 'end');
  close();
  text.focus();
  text.dispatchEvent(new Event('input', { bubbles: true }));
}

function listen() {
  list.setAttribute('role', 'listbox');
  list.setAttribute('aria-label', 'People');
  aloud.setAttribute('role', 'status');
  text.setAttribute('aria-autocomplete', 'list');
  composer.append(list, aloud);
  const look = () => { offer().catch(close); };
  text.addEventListener('input', look);
  text.addEventListener('click', look);
  text.addEventListener('keyup', ({ key }) => { if (/^(Arrow(Left|Right)|Home|End)$/.test(key)) look(); });
  text.addEventListener('blur', close);
  // Before the composer, to which Enter means something else.
  composer.addEventListener('keydown', (event) => {
    if (list.hidden || event.isComposing || event.keyCode === 229) return;
    const options = Array.from(list.children);
    const at = options.indexOf(chosen());
    if (event.key === 'ArrowDown') choose(options[(at + 1) % options.length]);
    else if (event.key === 'ArrowUp') choose(options[(at + options.length - 1) % options.length]);
    else if ((event.key === 'Enter' || event.key === 'Tab') && !event.shiftKey) take(chosen());
    else if (event.key === 'Escape') close();
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
