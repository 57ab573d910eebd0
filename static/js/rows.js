// The rows of a log, put together: the reader's days, and messages of one author within five minutes. The
// server does the same in UTC (`views/row.rs`); both are held to the cases of `tests/rows.json`.

const TOGETHER_MS = 5 * 60_000;

/** The number of the event that a row shows; 0 for other rows. */
export function numberOf(row) {
  return Number(row?.id?.slice(2)) || 0;
}

/** Tells days apart and puts messages together, from `first` on. */
export function arrange(list, first = list.firstElementChild) {
  let above = first?.previousElementSibling ?? null;
  while (above && !above.id.startsWith('m-')) above = above.previousElementSibling;
  let isApart = false;
  for (let row = first, next; row; row = next) {
    next = row.nextElementSibling;
    if (row.classList.contains('day')) {
      row.remove();
      continue;
    }
    if (row.classList.contains('new')) isApart = true;
    const at = dateOf(row);
    if (!at) continue;
    const before = above && dateOf(above);
    const isNewDay = !before || before.toDateString() !== at.toDateString();
    if (isNewDay) row.before(dayLine(at));
    row.classList.toggle('follows', !isNewDay && !isApart && row.matches('.message:not(.marked)') && above.matches('.message')
      && row.dataset.author === above.dataset.author && at - before <= TOGETHER_MS);
    isApart = false;
    above = row;
  }
}

function dateOf(row) {
  const time = row.querySelector('time');
  return time && new Date(time.dateTime);
}

function dayLine(at) {
  const line = document.createElement('li');
  line.className = 'day';
  const year = at.getFullYear() === new Date().getFullYear() ? undefined : 'numeric';
  const day = at.toLocaleDateString([], { weekday: 'long', day: 'numeric', month: 'long', year });
  line.append(Object.assign(document.createElement('span'), { textContent: day }));
  return line;
}
