// What works without this file works with it too; it only keeps what is being typed, and counts words.
(() => {
  const form = document.querySelector("form[data-draft]");
  if (!form) return;
  const saved = document.getElementById("saved");
  // The word of the form differs from person to person: who sits down here next must not find what was typed before.
  const place = "study-draft " + form.elements.csrf.value.slice(0, 16) + form.dataset.draft;
  let dirty = false, sending = false, timer = 0;
  const body = () => new URLSearchParams(new FormData(form));
  const filled = () => [...new FormData(form)].some(([name, value]) => name !== "csrf" && value !== "");

  // Typed while the connection was lost and then reloaded: this tab still knows it.
  try {
    for (const key of Object.keys(sessionStorage)) {  // of other pages and people: sent long ago, or not ours
      if (key.startsWith("study-draft") && key !== place) sessionStorage.removeItem(key);
    }
    const kept = sessionStorage.getItem(place);
    if (kept && !filled()) {
      for (const [name, value] of new URLSearchParams(kept)) {
        if (name === "csrf") continue;
        for (const field of form.querySelectorAll(`[name="${CSS.escape(name)}"]`)) {
          if (field.type === "radio" || field.type === "checkbox") field.checked ||= field.value === value;
          else field.value = value;
        }
      }
      dirty = true;
    }
  } catch { /* storage may be forbidden */ }

  const keep = async () => {
    if (!dirty || sending) return;
    sending = true;
    dirty = false;
    try {
      const answer = await fetch(form.dataset.draft, { method: "POST", body: body() });
      if (answer.ok) {
        saved.textContent = "Saved.";
        sessionStorage.removeItem(place);
      } else if (answer.status !== 409) dirty = true;
    } catch {
      dirty = true;
      saved.textContent = "No connection. What you write stays in this tab and is saved when the connection is back.";
    }
    sending = false;
  };
  form.addEventListener("input", () => {
    dirty = true;
    saved.textContent = "";
    try { sessionStorage.setItem(place, body()); } catch { /* as above */ }
    clearTimeout(timer);
    timer = setTimeout(keep, 1500);
  });
  setInterval(keep, 10000);
  document.addEventListener("visibilitychange", () => { if (document.hidden) keep(); });
  let sent = false;
  form.addEventListener("submit", (event) => {
    if (sent) { event.preventDefault(); return; }  // a double click sends once
    sent = true;
    dirty = false;
    setTimeout(() => { sent = false; }, 5000);
  });
  window.addEventListener("pageshow", () => { sent = false; });

  for (const area of form.querySelectorAll("textarea[data-words]")) {
    const help = document.getElementById(area.name + "-help");
    if (!help) continue;
    const least = Number(area.dataset.words), count = document.createElement("span");
    help.append(" ", count);
    const tell = () => {
      const words = (area.value.match(/\S+/g) || []).length;
      count.textContent = words ? `(${words} of ${least})` : "";
    };
    area.addEventListener("input", tell);
    tell();
  }
  document.getElementById("faults")?.focus();
})();
