// A room whose scripts do not get to work, for whatever reason, goes on as it does without scripts. This
// one needs none of the others, and nothing that a browser of 2012 does not have.
(function () {
  'use strict';
  // Seconds that a page which is looked at may go without its messages: once all that it loads has
  // come or failed; while it loads; while its script is still trying.
  var LOADED = 3, LOADING = 8, TRYING = 20;
  var waited = 0;
  var added = [];

  // The state that `stream.js` reports.
  function state(log) {
    return log.getAttribute('data-state');
  }

  function works(log) {
    return state(log) === 'stream' || state(log) === 'poll';
  }

  // Puts in the parts that stand in the page for browsers without scripts.
  function fallBack() {
    var parts = document.querySelectorAll('main noscript');
    for (var i = 0; i < parts.length; i += 1) {
      var part = document.createElement('div');
      part.innerHTML = parts[i].textContent;
      while (part.firstChild) {
        added.push(part.firstChild);
        parts[i].parentNode.insertBefore(part.firstChild, parts[i]);
      }
    }
    // A file that hangs keeps the page from being painted for as long as its element is there.
    var blocking = document.querySelectorAll('script[blocking], link[rel=stylesheet]');
    for (var k = 0; k < blocking.length; k += 1) {
      if (!blocking[k].sheet) blocking[k].parentNode.removeChild(blocking[k]);
    }
    say('A part of this page is missing. New messages appear here:');
    var scroller = document.getElementById('scroller');
    if (scroller && !scroller.querySelector('.new')) scroller.scrollTop = scroller.scrollHeight;
  }

  function takeBack() {
    for (var i = 0; i < added.length; i += 1) {
      if (added[i].parentNode) added[i].parentNode.removeChild(added[i]);
    }
    if (added.length) say('');
  }

  function say(what) {
    var status = document.getElementById('connection');
    if (status) status.textContent = what;
  }

  var timer = setInterval(function () {
    var log = document.getElementById('log');
    if (!log || document.hidden) return;
    if (works(log)) {
      clearInterval(timer);
      takeBack();
      return;
    }
    waited += 1;
    var patience = state(log) === 'trying' ? TRYING : document.readyState === 'complete' ? LOADED : LOADING;
    if (waited >= patience && !added.length) fallBack();
  }, 1000);
}());
