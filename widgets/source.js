// The page of a ModelSource: a network of the catalogue, or a file that is sent in pieces. page.js stands before this.

function sourceLayout(setup, id) {
  const select = make("select", { id: `${id}-network` }, ...setup.catalogue.map(([name, title, about]) => make("option", { value: name }, `${title} (${about})`)));
  const error = { network: make("p", { className: "ckx-error", role: "alert" }), upload: make("p", { className: "ckx-error", role: "alert" }) };
  const choose = make("div", { className: "ckx-network" }, make("label", { for: `${id}-network` }, "Network"), select, error.network);
  const file = make("input", { type: "file", accept: ".onnx,.pt2", hidden: true, tabIndex: -1 });
  const upload = make("button", { type: "button", className: "ckx-button" }, "Upload your own");
  const hint = make("p", { className: "ckx-hint", id: `${id}-hint` }, `ONNX or torch.export (.pt2), at most ${setup.most_words}. Its weights are not read, and the file is not kept.`);
  upload.setAttribute("aria-describedby", hint.id);
  const own = make("div", { className: "ckx-own" }, upload, file, hint, error.upload);
  const saves = setup.formats.map((format) => make("button", { type: "button", className: "ckx-button", value: format, "aria-label": `Save the profile as ${format.toUpperCase()}` }, format.toUpperCase()));
  const unsaved = make("p", { className: "ckx-error", role: "alert" });
  const save = make("div", { className: "ckx-kept" }, make("span", { className: "ckx-hint" }, "Save the profile"), ...saves, unsaved);
  const state = make("p", { className: "ckx-state", role: "status" });
  const bar = make("div", { className: "ckx-bar" });
  const root = make("div", { className: "ckx ckx-source" }, bar, choose, ...(setup.most ? [own] : []), ...(saves.length ? [save] : []), state);
  return { root, select, error, file, upload, saves, unsaved, state };
}

// Sends a file in pieces, which the kernel puts together; the question that follows says that it is whole.
async function sendFile(model, file, piece) {
  const content = await file.arrayBuffer();
  for (let at = 0; at === 0 || at < content.byteLength; at += piece) {
    model.send({ kind: "piece", first: at === 0 }, undefined, [content.slice(at, at + piece)]);
  }
  return content.byteLength;
}

function render({ model, el }) {
  const id = viewId();
  const setup = model.get("setup");
  const ui = sourceLayout(setup, id);
  el.append(ui.root);
  el.classList.add("ckx-host");
  let asked = { network: ui.select.value };
  const complain = (control, text) => {
    for (const [name, place] of Object.entries(ui.error)) place.textContent = name === control ? text : "";
  };
  const talk = conversation(model, ui.root, () => asked, (answer, more) => {
    if (more) return;
    const { error } = answer;
    complain(error ? error.control || "network" : "", error ? error.text : "");
    const mine = !error && "upload" in asked;
    ui.state.textContent = mine ? `${answer.label} is what you uploaded.` : "";
    showChosen(answer);
  });
  // an upload is no network of the list: it has a line of its own while it is shown
  const showChosen = (answer) => {
    ui.select.querySelector("[data-own]")?.remove();
    if (!answer.network) {
      const own = make("option", { value: "", disabled: true }, `${answer.label} (your upload)`);
      own.dataset.own = "true";
      ui.select.prepend(own);
    }
    ui.select.value = answer.network;
  };
  const bring = async (file) => {
    if (!file) return;
    if (file.size > setup.most) {
      complain("upload", `A file has at most ${setup.most_words}, but ${file.name} has ${(file.size / 2 ** 20).toFixed(1)} MiB. Leave its weights out, or choose a network of the list.`);
      return;
    }
    complain("", "");
    ui.state.textContent = `Reading ${file.name}: the first file takes some seconds.`;
    const size = await sendFile(model, file, setup.piece);
    asked = { upload: file.name, size };
    talk.ask();
  };
  ui.select.addEventListener("change", () => {
    asked = { network: ui.select.value };
    talk.ask();
  });
  ui.upload.addEventListener("click", () => ui.file.click());
  ui.file.addEventListener("change", () => {
    bring(ui.file.files[0]);
    ui.file.value = ""; // the same file can be chosen again
  });
  ui.root.addEventListener("dragover", (event) => {
    if (!setup.most) return;
    event.preventDefault();
    ui.root.classList.add("ckx-over");
  });
  ui.root.addEventListener("dragleave", () => ui.root.classList.remove("ckx-over"));
  ui.root.addEventListener("drop", (event) => {
    event.preventDefault();
    ui.root.classList.remove("ckx-over");
    if (setup.most) bring(event.dataTransfer.files[0]);
  });
  for (const button of ui.saves) {
    button.addEventListener("click", () => {
      ui.unsaved.textContent = "";
      model.send({ kind: "save", format: button.value });
    });
  }
  const received = (content, buffers) => {
    if (content.kind === "file") ckSave(content.name, new Blob(buffers, { type: "application/octet-stream" }));
    else if (content.kind === "unsaved") ui.unsaved.textContent = content.text;
  };
  model.on("msg:custom", received);
  const stopTheme = followTheme(ui.root, () => {});
  showChosen(model.get("answer"));
  return () => {
    talk.stop();
    stopTheme();
    model.off("msg:custom", received);
  };
}

export default { render };
