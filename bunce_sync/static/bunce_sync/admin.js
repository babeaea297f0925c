/* Keeps an open page of the admin up to date, counts down, and copies ids. No dependencies.

   The server is asked every few seconds with the ETag of what the page shows, less and less often
   while nothing changes, and not at all while the tab is hidden. Times are the database's: the
   page is told its "now" with each answer, and counts on from there by the browser's monotonic
   clock, so a browser whose clock is wrong counts right all the same. */

"use strict";

(() => {
  const FASTEST = 2000; // milliseconds between two questions after a change
  const SLOWEST = 30000; // and when nothing has changed for long
  const SLOWDOWN = 1.5;
  const PATIENCE = 2; // questions without an answer before the page says so
  const COPIED = 2000; // how long a button says that it copied

  document.addEventListener("DOMContentLoaded", () => {
    document.addEventListener("click", copy);
    const root = document.querySelector("[data-bunce-live]");
    if (root) {
      keepUpToDate(root);
      guardUnsaved(root);
    }
  });

  // ── Asking for news ──────────────────────────────────────────────────────────────────────────

  function keepUpToDate(root) {
    const texts = JSON.parse(root.dataset.bunceTexts);
    const clock = { now: 0, swept: null, read: 0, told: root.dataset.bunceTime };
    const url = new URL(root.dataset.bunceLive, location.href);
    const rows = [...document.querySelectorAll("#result_list [id^='bunce-badge-']")];
    if (rows.length) {
      url.searchParams.set("ids", rows.map((row) => row.id.slice("bunce-badge-".length)).join());
    }
    let wait = FASTEST;
    let etag = null;
    let timer = null;
    let asking = false;
    let failures = 0;

    function setClock(now, swept) {
      clock.now = Number(now);
      clock.swept = swept === "" || swept === null ? null : Number(swept);
      clock.read = performance.now();
    }

    function tick() {
      const passed = (performance.now() - clock.read) / 1000;
      for (const time of document.querySelectorAll("[data-bunce-until]")) {
        const left = Number(time.dataset.bunceUntil) - clock.now - passed;
        setText(time, left > 0 ? spoken(left, texts.inSeconds, texts.inMinutes) : texts.now);
      }
      if (clock.swept !== null) {
        for (const age of document.querySelectorAll("[data-bunce-swept]")) {
          setText(age, spoken(clock.swept + passed, texts.agoSeconds, texts.agoMinutes));
        }
      }
    }

    async function ask() {
      timer = null;
      if (document.hidden || asking) return;
      asking = true;
      try {
        const headers = etag ? { "If-None-Match": etag } : {};
        const answer = await fetch(url, { headers, cache: "no-store", redirect: "manual" });
        if (ended(answer)) {
          complain(texts.ended);
          return; // until somebody comes back to the tab
        }
        if (answer.status === 200) {
          const { fragments } = await answer.json();
          etag = answer.headers.get("ETag");
          if (exchange(fragments, texts)) wait = FASTEST / SLOWDOWN;
        } else if (answer.status !== 304) {
          throw new Error(`status ${answer.status}`);
        }
        failures = 0;
        complain("");
        setClock(answer.headers.get("Bunce-Now"), answer.headers.get("Bunce-Sweep-Age"));
        clock.told = answer.headers.get("Bunce-Time");
        wait = Math.min(wait * SLOWDOWN, SLOWEST);
        tick();
      } catch {
        failures += 1; // the site does not answer just now
        if (failures >= PATIENCE) complain(texts.unanswered.replace("{time}", clock.told));
        wait = failures < PATIENCE ? FASTEST : SLOWEST;
      } finally {
        asking = false;
      }
      timer = setTimeout(ask, wait);
    }

    /* Logged out (a redirect to the login), no longer allowed, or the segment is gone. */
    function ended(answer) {
      return answer.type === "opaqueredirect" || [401, 403, 404].includes(answer.status);
    }

    /* What is shown is old: say so, and no longer count an age on that nobody knows. */
    function complain(text) {
      const notice = root.querySelector("[data-bunce-stale]");
      if (notice.textContent === text) return;
      notice.textContent = text;
      notice.hidden = !text;
      root.classList.toggle("bunce-old", Boolean(text));
      if (text) announce(text);
    }

    function wake() {
      clearTimeout(timer);
      if (!document.hidden) {
        wait = FASTEST;
        ask();
      }
    }

    setClock(root.dataset.bunceNow, root.dataset.bunceSweepAge);
    document.addEventListener("visibilitychange", wake);
    timer = setTimeout(ask, wait);
    tick();
    setInterval(tick, 1000);
  }

  /* Put in what changed and say which states and notices did. Focus and opened details stay. */
  function exchange(fragments, texts) {
    const said = [];
    let changed = false;
    for (const [id, html] of Object.entries(fragments)) {
      const place = document.getElementById(id);
      if (!place || place.bunceShown === html) continue;
      const first = place.bunceShown === undefined;
      place.bunceShown = html;
      if (first && sameText(place, html)) continue;
      changed = true;
      const before = statusOf(place)?.dataset.bunceStatus;
      const noticesBefore = noticesOf(place);
      const focused = place.contains(document.activeElement) ? document.activeElement.id : null;
      const open = [...place.querySelectorAll("details[open]")].map((details) => details.id);
      place.innerHTML = html;
      for (const details of open) document.getElementById(details)?.setAttribute("open", "");
      if (focused !== null) focusOn(document.getElementById(focused) ?? place);
      const after = statusOf(place);
      if (after && after.dataset.bunceStatus !== before) said.push(after.dataset.bunceSay);
      const notices = noticesOf(place);
      said.push(...notices.filter((notice) => !noticesBefore.includes(notice)));
      if (noticesBefore.length && !notices.length) said.push(texts.goesOn);
    }
    if (said.length) announce(said.join(" "));
    return changed;
  }

  /* A button that is gone leaves the focus where it stood, not at the page's beginning. */
  function focusOn(element) {
    if (element.tabIndex < 0) element.tabIndex = -1;
    element.focus({ preventScroll: true });
  }

  function noticesOf(place) {
    return [...place.querySelectorAll("[data-bunce-notice]")].map((one) => one.dataset.bunceNotice);
  }

  function statusOf(place) {
    return place.querySelector("[data-bunce-status]");
  }

  /* Whether the page, as it was first sent, shows the same: apart from times that count. */
  function sameText(place, html) {
    const copies = [place.cloneNode(true), place.cloneNode(false)];
    copies[1].innerHTML = html;
    for (const copied of copies) {
      for (const time of copied.querySelectorAll("[data-bunce-until], [data-bunce-swept]")) {
        time.textContent = "";
      }
    }
    return copies[0].innerHTML === copies[1].innerHTML;
  }

  function announce(text) {
    const place = document.querySelector("[data-bunce-announce]");
    if (place) place.textContent = text;
  }

  function spoken(seconds, inSeconds, inMinutes) {
    const whole = Math.max(Math.ceil(seconds), 0);
    if (whole < 100) return inSeconds.replace("{n}", whole);
    return inMinutes.replace("{n}", Math.round(whole / 60));
  }

  function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  // ── Copying ──────────────────────────────────────────────────────────────────────────────────

  async function copy(event) {
    const button = event.target.closest("[data-bunce-copy]");
    if (!button) return;
    const root = document.querySelector("[data-bunce-live]");
    if (!(await write(button.dataset.bunceCopy))) return;
    const { copied } = JSON.parse(root?.dataset.bunceTexts ?? "{}");
    clearTimeout(button.bunceTimer);
    button.bunceLabel ??= button.getAttribute("aria-label");
    button.classList.add("bunce-copied");
    if (copied) {
      button.setAttribute("aria-label", copied);
      announce(copied);
    }
    button.bunceTimer = setTimeout(() => {
      button.classList.remove("bunce-copied");
      button.setAttribute("aria-label", button.bunceLabel);
    }, COPIED);
  }

  async function write(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return writeByHand(text); // not a secure context, or not allowed
    }
  }

  function writeByHand(text) {
    const area = document.createElement("textarea");
    const focused = document.activeElement;
    area.value = text;
    area.className = "bunce-hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }

  // ── Unsaved changes ──────────────────────────────────────────────────────────────────────────

  /* The buttons send nothing of what is being typed, so that must not be lost by pressing one. */
  function guardUnsaved(root) {
    const form = document.getElementById("segment_form");
    const note = root.querySelector("[data-bunce-unsaved]");
    if (!form || !note) return;
    // After a save that failed the form holds what is saved nowhere.
    const failed = document.querySelector(".errornote, .errorlist");
    const saved = failed ? null : snapshot(form);
    for (const asked of document.querySelectorAll("form[data-bunce-ask]")) {
      asked.addEventListener("submit", (event) => {
        if (snapshot(form) === saved) return;
        event.preventDefault();
        note.textContent = JSON.parse(root.dataset.bunceTexts).unsaved;
        note.hidden = false;
      });
    }
  }

  function snapshot(form) {
    return JSON.stringify([...new FormData(form)].filter(([, value]) => typeof value === "string"));
  }
})();
