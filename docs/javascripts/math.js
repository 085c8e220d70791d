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
      window.katex.render(written.slice(2, -2), formula, {
        displayMode: written.startsWith("\\["),
        throwOnError: false,
        strict: "ignore",
      });
    }
    document.documentElement.dataset.formulas = "rendered";
  });
  document.head.append(script);
})();
