// Progressive enhancement: local and relative times, copy buttons, selecting all, live refresh, opening linked
// details.
// Every page works without it.
"use strict";

(() => {
  const UTC = "pages-times-in-utc";
  const EXACT = "pages-times-exact";
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const local = new Intl.DateTimeFormat("en-GB", {
    year: "numeric", month: "short", day: "numeric",
    hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
  });

  // The clock of the server less that of this machine, which may be wrong.
  const skew = (Date.parse(document.body.dataset.serverTime) || Date.now()) - Date.now();

  function chosen(key) {
    try { return localStorage.getItem(key) === "yes"; } catch { return false; }
  }

  function choose(key) {
    try { localStorage.setItem(key, chosen(key) ? "no" : "yes"); } catch { return; }
    showTimes(document);
    showZone();
  }

  // How long ago, or in how long; nothing for more than 30 days.
  function distance(at) {
    const seconds = (Date.now() + skew - at) / 1000;
    const size = Math.abs(seconds);
    if (size < 60) return seconds < 0 ? "in 1 min" : "just now";
    if (size >= 30 * 86400) return undefined;
    const [length, unit] = size < 3600 ? [60, "min"] : size < 2 * 86400 ? [3600, "h"] : [86400, "days"];
    const number = `${Math.floor(size / length)} ${unit}`;
    return seconds < 0 ? `in ${number}` : `${number} ago`;
  }

  function showTimes(root) {
    const utc = chosen(UTC), exact = chosen(EXACT);
    for (const time of root.querySelectorAll("time[datetime]")) {
      time.dataset.utc ??= time.textContent;
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      let shown = utc ? time.dataset.utc : local.format(at);
      if (time.matches("[data-ago]")) {
        time.dataset.title ??= time.title;
        time.title = utc ? time.dataset.title : `${shown} (${time.dataset.title})`;
        if (!exact) shown = distance(at) ?? shown;
      }
      if (time.textContent !== shown) time.textContent = shown;
    }
  }

  function showZone() {
    const label = document.querySelector("[data-zone]");
    const button = document.querySelector("[data-zone-switch]");
    const ago = document.querySelector("[data-ago-switch]");
    if (!label || !button || !ago) return;
    ago.textContent = chosen(EXACT) ? "Show relative times" : "Show exact times";
    ago.hidden = !document.querySelector("[data-ago]");
    if (zone === "UTC") return;
    label.textContent = chosen(UTC) ? "Times are in UTC." : `Times are in ${zone}; hover for UTC.`;
    button.textContent = chosen(UTC) ? `Show ${zone}` : "Show UTC";
    button.hidden = false;
  }

  function offerCopies(root) {
    if (!navigator.clipboard) return;
    for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
  }

  async function copy(button) {
    const label = button.dataset.originalLabel ??= button.textContent;
    try {
      const source = document.getElementById(button.dataset.copy)
        ?? button.parentElement.querySelector("[data-copy-text]");
      await navigator.clipboard.writeText(source.textContent);
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
    const button = event.target.closest("[data-copy], [data-zone-switch], [data-ago-switch]");
    if (!button) return;
    if (button.matches("[data-copy]")) copy(button);
    else choose(button.matches("[data-zone-switch]") ? UTC : EXACT);
  });
  showTimes(document);
  showZone();
  offerCopies(document);
  offerTicks();
  setInterval(() => showTimes(document), 30000);
  addEventListener("hashchange", unfold);
  unfold();
  document.querySelectorAll("[data-refresh]").forEach(refresh);
})();
