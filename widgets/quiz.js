// The page of an ArrayQuiz: a line for each question, and what was said to its answer. page.js stands before this text.

function render({ model, el }) {
  const id = viewId();
  const title = make("h3", { className: "ck-title", id: `${id}-title` }, "Questions");
  const about = make("p", { className: "ck-subtitle", role: "status" });
  const other = make("button", { type: "button", className: "ckx-button" }, "Other questions");
  const list = make("ol", { className: "ckx-questions" });
  const error = make("p", { className: "ckx-error", role: "alert" });
  const head = make("div", { className: "ckx-quiz-head" }, make("div", { className: "ckx-bar" }), make("div", {}, title, about), other);
  const root = make("section", { className: "ckx ckx-quiz", "aria-labelledby": title.id }, head, error, list);
  el.append(root);
  el.classList.add("ckx-host");
  let question = {};
  let rows = [];
  let texts = "";
  const talk = conversation(model, root, () => question, (answer, more) => more || show(answer));
  const ask = (fields) => {
    question = fields;
    talk.ask();
  };
  const row = ({ text, unit }, at) => {
    const field = make("input", { type: "number", step: "any", id: `${id}-${at}` });
    field.setAttribute("aria-describedby", `${id}-told${at}`);
    const check = make("button", { type: "submit", className: "ckx-button" }, "Check");
    const reveal = make("button", { type: "button", className: "ckx-button", "aria-label": `Show me: ${text}` }, "Show me");
    const told = make("p", { className: "ckx-told", id: `${id}-told${at}`, role: "status" });
    const form = make(
      "form",
      { className: "ckx-question" },
      make("label", { for: field.id }, text),
      make("span", { className: "ckx-entry" }, field, make("span", { className: "ckx-unit" }, unit), check, reveal),
      told,
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      ask({ action: "check", at, value: field.value.trim() === "" ? null : Number(field.value) });
    });
    reveal.addEventListener("click", () => {
      ask({ action: "show", at });
      root.closest(".ckx-panel, body")?.querySelector(".ckx-animator")?.scrollIntoView({ block: "start", behavior: "auto" });
    });
    return { form, field, told };
  };
  const show = (answer) => {
    const now = JSON.stringify(answer.questions.map(({ text }) => text));
    if (now !== texts) {
      texts = now;
      rows = answer.questions.map(row);
      list.replaceChildren(...rows.map(({ form }) => make("li", {}, form)));
    }
    answer.questions.forEach(({ right, words, value }, at) => {
      const wrong = answer.error?.control === String(at);
      const { form, field, told } = rows[at];
      const said = wrong ? answer.error.text : words;
      if (told.textContent !== said) told.textContent = said;
      form.classList.toggle("ckx-right", right === true && !wrong);
      form.classList.toggle("ckx-notyet", right === false || wrong);
      field.setAttribute("aria-invalid", String(right === false || wrong));
      if (value !== undefined && document.activeElement !== field) field.value = String(value);
    });
    error.textContent = answer.error && !rows[Number(answer.error.control || NaN)] ? answer.error.text : "";
    title.textContent = answer.right ? `Questions: ${answer.right} of ${answer.questions.length} right` : "Questions";
    about.textContent = `${answer.about}. The answers come from the simulation above; what you set there is what is asked.`;
  };
  other.addEventListener("click", () => ask({ action: "other" }));
  const stopTheme = followTheme(root, () => {});
  show(model.get("answer"));
  return () => {
    talk.stop();
    stopTheme();
  };
}

export default { render };
