// Live counts: the same page, fetched again while somebody looks at it.
setInterval(async () => {
  if (document.hidden) return;
  try {
    const answer = await fetch("/admin");
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
    if (answer.ok && fresh) document.getElementById("live").replaceWith(fresh);
  } catch { /* asked again */ }
}, 10000);
