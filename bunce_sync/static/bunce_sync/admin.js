/* Keeps an open admin page up to date, counts down, and copies ids. No dependencies.

   The page polls with the ETag of what it shows: every two seconds after a change, less and less
   often while nothing changes, and not at all in a hidden tab. Times come from the database: each
   response contains its current time, from which the page counts with the browser's monotonic
   clock. So it does not matter if the browser's clock is wrong. */

"use strict";

(() => {
  const MIN_INTERVAL = 2000; // milliseconds between two polls after a change
  const MAX_INTERVAL = 30000; // and after a long time without one
  const BACKOFF = 1.5;
  const MAX_FAILURES = 2; // failed polls before the page says that it is outdated
  const COPIED_TIME = 2000; // milliseconds that a button confirms a copy

  document.addEventListener("DOMContentLoaded", () => {
    document.addEventListener("click", copy);
    const root = document.querySelector("[data-bunce-live]");
    if (root) {
      keepUpToDate(root);
      guardUnsaved(root);
    }
  });

  // ── Polling ──────────────────────────────────────────────────────────────────────────────────

  function keepUpToDate(root) {
    const texts = JSON.parse(root.dataset.bunceTexts);
    const clock = { now: 0, sweepAge: null, readAt: 0, text: root.dataset.bunceTime };
    const url = new URL(root.dataset.bunceLive, location.href);
    const badges = [...document.querySelectorAll("#result_list [id^='bunce-badge-']")];
    if (badges.length) {
      const ids = badges.map((badge) => badge.id.slice("bunce-badge-".length));
      url.searchParams.set("ids", ids.join());
    }
    let interval = MIN_INTERVAL;
    let etag = null;
    let timer = null;
    let polling = false;
    let failures = 0;

    function setClock(now, sweepAge) {
      clock.now = Number(now);
      clock.sweepAge = sweepAge === "" || sweepAge === null ? null : Number(sweepAge);
      clock.readAt = performance.now();
    }

    function tick() {
      const elapsed = (performance.now() - clock.readAt) / 1000;
      for (const element of document.querySelectorAll("[data-bunce-until]")) {
        const left = Number(element.dataset.bunceUntil) - clock.now - elapsed;
        const text = left > 0 ? duration(left, texts.inSeconds, texts.inMinutes) : texts.now;
        setText(element, text);
      }
      if (clock.sweepAge !== null) {
        const age = clock.sweepAge + elapsed;
        for (const element of document.querySelectorAll("[data-bunce-swept]")) {
          setText(element, duration(age, texts.agoSeconds, texts.agoMinutes));
        }
      }
    }

    async function poll() {
      timer = null;
      if (document.hidden || polling) return;
      polling = true;
      try {
        const headers = etag ? { "If-None-Match": etag } : {};
        const response = await fetch(url, { headers, cache: "no-store", redirect: "manual" });
        if (isFinal(response)) {
          showOutdated(texts.notUpdated);
          return; // until the tab is shown again
        }
        if (response.status === 200) {
          const { fragments, content, values } = await response.json();
          etag = response.headers.get("ETag");
          if (content && content !== root.dataset.bunceContent) {
            root.dataset.bunceContent = content;
            showChanges(root, values, texts);
          }
          if (replaceFragments(fragments, texts)) interval = MIN_INTERVAL / BACKOFF;
        } else if (response.status !== 304) {
          throw new Error(`status ${response.status}`);
        }
        failures = 0;
        showOutdated("");
        setClock(response.headers.get("Bunce-Now"), response.headers.get("Bunce-Sweep-Age"));
        clock.text = response.headers.get("Bunce-Time");
        interval = Math.min(interval * BACKOFF, MAX_INTERVAL);
        tick();
      } catch {
        failures += 1; // the site does not respond, or responds with an error
        if (failures >= MAX_FAILURES) {
          showOutdated(texts.unreachable.replace("{time}", clock.text));
        }
        interval = failures < MAX_FAILURES ? MIN_INTERVAL : MAX_INTERVAL;
      } finally {
        polling = false;
      }
      timer = setTimeout(poll, interval);
    }

    /* Whether polling is over: logged out (a redirect to the login), no permission, or deleted. */
    function isFinal(response) {
      return response.type === "opaqueredirect" || [401, 403, 404].includes(response.status);
    }

    /* Say that the page is outdated. The age of the last sweep is hidden: it is not known. */
    function showOutdated(text) {
      const notice = root.querySelector("[data-bunce-outdated]");
      if (notice.textContent === text) return;
      notice.textContent = text;
      notice.hidden = !text;
      root.classList.toggle("bunce-is-outdated", Boolean(text));
      if (text) announce(text);
    }

    function onVisibilityChange() {
      clearTimeout(timer);
      if (!document.hidden) {
        interval = MIN_INTERVAL;
        poll();
      }
    }

    setClock(root.dataset.bunceNow, root.dataset.bunceSweepAge);
    document.addEventListener("visibilitychange", onVisibilityChange);
    timer = setTimeout(poll, interval);
    tick();
    setInterval(tick, 1000);
  }

  /* Replace changed fragments, and announce new statuses and notices. Focus and opened details are
     kept. Returns whether anything changed. */
  function replaceFragments(fragments, texts) {
    const announcements = [];
    let changed = false;
    for (const [id, html] of Object.entries(fragments)) {
      const element = document.getElementById(id);
      if (!element || element.bunceHtml === html) continue;
      const first = element.bunceHtml === undefined;
      element.bunceHtml = html;
      if (first && shows(element, html)) continue;
      changed = true;
      const statusBefore = badgeIn(element)?.dataset.bunceStatus;
      const noticesBefore = noticesIn(element);
      const newsBefore = newsIn(element);
      const focused = element.contains(document.activeElement) ? document.activeElement.id : null;
      const open = [...element.querySelectorAll("details[open]")].map((details) => details.id);
      element.innerHTML = html;
      for (const details of open) document.getElementById(details)?.setAttribute("open", "");
      if (focused !== null) focusOn(document.getElementById(focused) ?? element);
      const badge = badgeIn(element);
      if (badge && badge.dataset.bunceStatus !== statusBefore) {
        announcements.push(badge.dataset.bunceAnnouncement);
      }
      const notices = noticesIn(element);
      announcements.push(...notices.filter((notice) => !noticesBefore.includes(notice)));
      if (noticesBefore.length && !notices.length) announcements.push(texts.resumed);
      announcements.push(...newsIn(element).filter((news) => !newsBefore.includes(news)));
    }
    if (announcements.length) announce(announcements.join(" "));
    return changed;
  }

  /* If the focused element was removed, its container gets the focus, not the top of the page. */
  function focusOn(element) {
    if (element.tabIndex < 0) element.tabIndex = -1;
    element.focus({ preventScroll: true });
  }

  function noticesIn(element) {
    const notices = [...element.querySelectorAll("[data-bunce-notice]")];
    return notices.map((notice) => notice.dataset.bunceNotice);
  }

  /* What is announced once, such as the end of an import. */
  function newsIn(element) {
    return [...element.querySelectorAll("[data-bunce-news]")].map((one) => one.dataset.bunceNews);
  }

  function badgeIn(element) {
    return element.querySelector("[data-bunce-status]");
  }

  /* Whether an element of the page as first loaded shows this HTML, apart from running times. */
  function shows(element, html) {
    const copies = [element.cloneNode(true), element.cloneNode(false)];
    copies[1].innerHTML = html;
    for (const copied of copies) {
      for (const time of copied.querySelectorAll("[data-bunce-until], [data-bunce-swept]")) {
        time.textContent = "";
      }
    }
    return copies[0].innerHTML === copies[1].innerHTML;
  }

  function announce(text) {
    const announcer = document.querySelector("[data-bunce-announcer]");
    if (announcer) announcer.textContent = text;
  }

  function duration(seconds, inSeconds, inMinutes) {
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
    if (!(await writeToClipboard(button.dataset.bunceCopy))) return;
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
    }, COPIED_TIME);
  }

  async function writeToClipboard(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return copyFromTextarea(text); // not a secure context, or not permitted
    }
  }

  function copyFromTextarea(text) {
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

  // ── Two people, one segment ──────────────────────────────────────────────────────────────────

  /* Show what was changed while the page was open. Plain fields without unsaved edits take the new
     value; for the others the page that is saved will ask. Each value is [label, name, text, whether
     the form shows the text as it is]. */
  function showChanges(root, values, texts) {
    const hidden = root.querySelector("[data-bunce-shown]");
    const shown = JSON.parse(hidden?.value || "{}");
    const form = hidden?.form;
    const updated = [];
    const kept = [];
    for (const [label, name, text, plain] of values) {
      if (!(name in shown) || shown[name] === text) continue;
      const field = form.elements.namedItem(name);
      if (plain && field && valueOf(field) === unixLines(shown[name])) {
        if (field.type === "checkbox") field.checked = text === "True";
        else field.value = text;
        shown[name] = text;
        if (form.bunceSaved) form.bunceSaved[name] = valueOf(field);
        updated.push(label);
      } else {
        kept.push(label);
      }
    }
    if (updated.length) {
      hidden.value = JSON.stringify(shown);
      if (form.bunceSaved) form.bunceSaved[hidden.name] = valueOf(hidden);
    }
    const notice = root.querySelector("[data-bunce-changed]");
    if (!notice) return;
    const parts = [];
    if (updated.length) parts.push(`${texts.changedNow} ${updated.join(", ")}.`);
    if (kept.length) parts.push(`${texts.changedBeside} ${kept.join(", ")}.`);
    if (!values.length) parts.push(texts.changedReload);
    if (!parts.length) return; // saved in this tab, or changed back
    notice.textContent = parts.join(" ");
    notice.hidden = false;
    announce(notice.textContent);
  }

  function valueOf(field) {
    if (!field) return null;
    if (field.type === "checkbox") return field.checked ? "True" : "False";
    return unixLines(field.value);
  }

  function unixLines(text) {
    return text.replace(/\r\n?/g, "\n");
  }

  // ── Unsaved changes ──────────────────────────────────────────────────────────────────────────

  /* The action buttons do not submit the segment's form, so they would discard unsaved changes. */
  function guardUnsaved(root) {
    const form = root.closest("form");
    const notice = root.querySelector("[data-bunce-unsaved]");
    if (!form || !notice) return;
    // After a failed save, what the form contains is not saved.
    const failed = document.querySelector(".errornote, .errorlist");
    form.bunceSaved = failed ? null : entries(form);
    for (const action of document.querySelectorAll("form[data-bunce-action]")) {
      action.addEventListener("submit", (event) => {
        if (form.bunceSaved && JSON.stringify(entries(form)) === JSON.stringify(form.bunceSaved)) {
          return;
        }
        event.preventDefault();
        notice.textContent = JSON.parse(root.dataset.bunceTexts).unsaved;
        notice.hidden = false;
      });
    }
  }

  /* The values of a form's fields by name, all of them in the order of the form. */
  function entries(form) {
    const values = {};
    for (const field of form.elements) {
      if (field.name && field.type !== "file") values[field.name] = valueOf(field);
    }
    return values;
  }
})();
