// Formulas. KaTeX is fetched from the site itself, and only by pages that have any.
(() => {
  const formulas = document.querySelectorAll(".arithmatex");
  if (!formulas.length) return;
  const katex = new URL("../vendor/katex/", document.currentScript.src).href;

  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = `${katex}katex.min.css`;
  document.head.append(style);

  const script = document.createElement("script");
  script.src = `${katex}katex.min.js`;
  script.addEventListener("load", () => {
    for (const formula of formulas) {
      const written = formula.textContent.trim(); // \( ... \) or \[ ... \]
      const displayMode = written.startsWith("\\[");
      try {
        window.katex.render(written.slice(2, -2), formula, { displayMode, strict: "ignore" });
      } catch (error) {
        formula.textContent = written; // as TeX, and tests/docs/check_site.py says so
        formula.classList.add("katex-error");
        formula.title = error.message;
      }
    }
  });
  document.head.append(script);
})();
