// Progressive enhancement: local times, copy buttons, selecting all, live refresh, opening linked
// details.
// Every page works without it.
"use strict";

(() => {
  const UTC = "pages-times-in-utc";
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const local = new Intl.DateTimeFormat("en-GB", {
    year: "numeric", month: "short", day: "numeric",
    hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
  });

  function inUtc() {
    try { return localStorage.getItem(UTC) === "yes"; } catch { return false; }
  }

  function showTimes(root) {
    const utc = inUtc();
    for (const time of root.querySelectorAll("time[datetime]")) {
      time.dataset.utc ??= time.textContent;
      const at = new Date(time.dateTime);
      const shown = utc || Number.isNaN(at.getTime()) ? time.dataset.utc : local.format(at);
      if (time.textContent !== shown) time.textContent = shown;
    }
  }

  function showZone() {
    const label = document.querySelector("[data-zone]");
    const button = document.querySelector("[data-zone-switch]");
    if (!label || !button || zone === "UTC") return;
    label.textContent = inUtc() ? "Times are in UTC." : `Times are in ${zone}; hover for UTC.`;
    button.textContent = inUtc() ? `Show ${zone}` : "Show UTC";
    button.hidden = false;
  }

  function switchZone() {
    try { localStorage.setItem(UTC, inUtc() ? "no" : "yes"); } catch { return; }
    showTimes(document);
    showZone();
  }

  function offerCopies(root) {
    if (!navigator.clipboard) return;
    for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
  }

  async function copy(button) {
    const label = button.dataset.originalLabel ??= button.textContent;
    try {
      await navigator.clipboard.writeText(button.parentElement.querySelector("[data-copy-text]").textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  }

  // An element with data-refresh="/path" and data-every="2" shows the response of that path. It pauses
  // while the page is hidden or the element is in use, backs off after failures, and stops on a 204
  // response or when the session has ended.
  function refresh(element) {
    const every = Math.max(Number(element.dataset.every) || 5, 1) * 1000;
    let wait = every;

    async function once() {
      const busy = element.contains(document.activeElement) || element.querySelector("details[open]");
      if (document.hidden || busy) return plan();
      try {
        const response = await fetch(element.dataset.refresh, {
          headers: { "X-Refresh": "yes" }, credentials: "same-origin", redirect: "manual",
        });
        if (response.type === "opaqueredirect") return location.reload();
        if (response.status === 204) return undefined;
        if (!response.ok) throw new Error(response.status);
        put(element, await response.text());
        wait = every;
      } catch {
        wait = Math.min(wait * 2, 60000);
      }
      return plan();
    }

    function plan() { setTimeout(once, wait); }
    plan();
  }

  function put(element, html) {
    const parsed = new DOMParser().parseFromString(html, "text/html");
    showTimes(parsed);
    offerCopies(parsed);
    if (element.innerHTML !== parsed.body.innerHTML) element.replaceChildren(...parsed.body.childNodes);
  }

  function fragment() {
    try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; }
  }

  // Open a collapsed element that a link points to.
  function unfold() {
    const named = document.getElementById(fragment());
    if (!(named instanceof HTMLDetailsElement)) return;
    named.open = true;
    named.scrollIntoView();
  }

  // A checkbox with data-tick-all ticks all others in its table; the form's element with data-ticked
  // says how many are selected.
  function offerTicks() {
    for (const all of document.querySelectorAll("[data-tick-all]")) {
      const form = all.closest("form");
      const ticks = [...all.closest("table").querySelectorAll("td.tick input")];
      const said = form.querySelector("[data-ticked]");
      const hint = said.textContent;
      const count = () => {
        const ticked = ticks.filter((tick) => tick.checked).length;
        all.checked = ticked === ticks.length;
        all.indeterminate = ticked > 0 && !all.checked;
        said.textContent = ticked ? `${ticked} selected. ${hint}` : hint;
      };
      all.hidden = false;
      all.addEventListener("change", () => {
        for (const tick of ticks) tick.checked = all.checked;
        count();
      });
      form.addEventListener("change", count);
      count();
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy], [data-zone-switch]");
    if (!button) return;
    if (button.matches("[data-copy]")) copy(button); else switchZone();
  });
  showTimes(document);
  showZone();
  offerCopies(document);
  offerTicks();
  addEventListener("hashchange", unfold);
  unfold();
  document.querySelectorAll("[data-refresh]").forEach(refresh);
})();
