// Older messages come in above as one scrolls up: what is being read stays where it is.
import { scroller } from './log.js';
import { attempt, log, user } from './page.js';
import { arrange } from './rows.js';

/** The line between read and new stood above all of the page: older ones may belong below it. */
function moveLine() {
  const link = log.querySelector('.new a');
  if (!link) return;
  const line = link.closest('.new');
  const left = Number(link.href.split(/[-/]/).pop());
  const rows = Array.from(log.querySelectorAll('.message'));
  const isNew = ({ id, dataset }) => Number(id.slice(2)) > left && dataset.author !== user;
  rows.find(isNew)?.before(line);
  if (document.getElementById(`m-${left}`)) line.firstElementChild.textContent = 'New since you left';
}

function loadOlder() {
  if (!log) return;
  let fromEnd = null;
  let hadFocus = false;
  document.addEventListener('htmx:before:swap', (event) => {
    const older = event.detail.ctx?.target;
    if (older?.id !== 'older') return;
    fromEnd = scroller.scrollHeight - scroller.scrollTop;
    hadFocus = older.contains(document.activeElement);
    // Old messages are not read aloud as if they had just come.
    scroller.setAttribute('aria-live', 'off');
  });
  document.addEventListener('htmx:after:swap', () => {
    if (fromEnd === null) return;
    moveLine();
    arrange(log);
    scroller.scrollTop = scroller.scrollHeight - fromEnd;
    fromEnd = null;
    if (hadFocus) (log.querySelector('#older a') ?? scroller).focus({ preventScroll: true });
    setTimeout(() => { scroller.removeAttribute('aria-live'); }, 1_000);
    watchOlder();
  });
  // They load by themselves; the link is for readers without scripts, or without patience. Without htmx it
  // would lead away.
  const nearing = window.IntersectionObserver && new IntersectionObserver(([{ isIntersecting, target }]) => {
    if (!isIntersecting || !target.isConnected || !window.htmx) return;
    const link = target.querySelector('a');
    if (!link._htmx) htmx.process(link);
    link.click();
  }, { root: scroller, rootMargin: '200px 0px 0px' });
  const watchOlder = () => {
    const older = document.getElementById('older');
    if (older) nearing?.observe(older);
  };
  // Where the line that one has to see stands at the very top, not before one scrolls.
  if (!log.querySelector('.new a')) return addEventListener('load', watchOlder);
  setTimeout(() => scroller.addEventListener('scroll', watchOlder, { once: true, passive: true }), 500);
}

attempt(loadOlder);
