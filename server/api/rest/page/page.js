// The page at /: every picture comes from the addresses that docs/http.md describes.

const at = (id) => document.getElementById(id);
const GRPC_PORT = document.body.dataset.grpcPort;
const KEY = "ganserve-key";
const PLAY_MS = 60; // from place to place
const PLAY_STEPS = 12; // from seed to seed
const DRAW_MS = 200;
const GENERATES = ["unconditional", "class-conditional"];

let models = [];
let model = null;
let selected = null; // the seed that is shown large
let sent = null; // the image that was sent to an upscaler or translator
let result = null; // {blob, headers, milliseconds, name}
let round = 0; // answers to what is no longer wanted are dropped
let player = null;
let way = 0; // while playing: steps from the seeds to the next ones

// Requests

async function call(path, options = {}) {
  const key = at("key").value.trim();
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const started = performance.now();
  const answer = await fetch(path, { ...options, headers });
  if (!answer.ok) {
    const text = await answer.text();
    let reason = text;
    try {
      reason = JSON.parse(text).error;
    } catch {
      // not ours: a proxy's page
    }
    const error = new Error(reason || `${answer.status} ${answer.statusText}`);
    error.status = answer.status;
    throw error;
  }
  return { answer, milliseconds: () => performance.now() - started };
}

async function image(path, options) {
  const { answer, milliseconds } = await call(path, options);
  const blob = await answer.blob();
  return { blob, headers: answer.headers, milliseconds: milliseconds() };
}

function report(error) {
  at("problem").textContent = error ? error.message : "";
  at("problem").hidden = !error;
  if (error && error.status === 401) at("access").open = true;
}

async function attempt(work) {
  try {
    await work();
    report(null);
  } catch (error) {
    if (error.name !== "AbortError") report(error);
  }
}

// What is wanted, as fields of an address

function fields() {
  const found = new URLSearchParams();
  if (model.labels.length) found.set("label", at("label").value);
  if (model.truncation && Number(at("psi").value) !== knob("truncation").default) found.set("psi", at("psi").value);
  if (usesCenter()) found.set("center", at("center").value);
  if (knob("translate") && (Number(at("move-x").value) || Number(at("move-y").value))) {
    found.set("translate", `${at("move-x").value},${at("move-y").value}`);
  }
  if (knob("rotate") && Number(at("turn").value)) found.set("rotate", at("turn").value);
  if (knob("noise_seed") && at("noise-seed").value !== "") found.set("noise_seed", at("noise-seed").value);
  for (const each of sliders()) {
    if (Number(each.value)) found.append("edit", `${each.name}:${each.value}${each.dataset.layers}`);
  }
  if (knob("mix") && at("mix-seed").value !== "" && at("mix-layers").value) {
    found.append("mix", `${at("mix-seed").value}@${at("mix-layers").value}`);
  }
  if (model.critic && at("best-of").value !== "1") found.set("best_of", at("best-of").value);
  if (at("then").value) found.set("then", at("then").value);
  found.set("format", at("format").value);
  return found;
}

// At psi 1 nothing is drawn towards a centre, and the server says so instead of ignoring it.
function usesCenter() {
  return Boolean(knob("truncation_center")) && at("center").value !== "" && Number(at("psi").value) !== 1;
}

function tellCenter() {
  at("center-idle").hidden = !knob("truncation_center") || at("center").value === "" || usesCenter();
}

function knob(name) {
  return model.knobs.find((each) => each.name === name);
}

function sliders() {
  return [...at("directions").querySelectorAll("input")];
}

// DIRECTION:STRENGTH or DIRECTION:STRENGTH@LAYERS, as addresses have it.
function readEdit(text) {
  const [direction, rest = ""] = text.split(":");
  const [strength, layers = ""] = rest.split("@");
  return { direction, strength, layers };
}

function modelPath(verb) {
  return `/v1/models/${encodeURIComponent(model.name)}${verb}`;
}

function addressOf(seed) {
  const found = fields();
  found.set("seed", seed);
  if (way) found.set("toward", `${(seed + 1) % 2 ** 32}:${way / PLAY_STEPS}`);
  found.sort();
  return `${modelPath("/image")}?${readable(found)}`;
}

function readable(found) {
  return String(found).replaceAll("%3A", ":").replaceAll("%40", "@").replaceAll("%2C", ",");
}

function seeds() {
  const first = Math.min(Math.max(Math.trunc(Number(at("seed").value)) || 0, 0), 2 ** 32 - 1);
  const count = Math.min(Number(at("count").value), 2 ** 32 - first);
  return Array.from({ length: count }, (_, index) => first + index);
}

// Generators

async function drawGrid() {
  const mine = ++round;
  const wanted = seeds();
  const grid = at("grid");
  while (grid.children.length > wanted.length) grid.lastChild.remove();
  while (grid.children.length < wanted.length) grid.append(cell());
  if (!wanted.includes(selected)) selected = wanted[0];
  writeHash();
  tellCenter();
  await Promise.all(
    wanted.map(async (seed, index) => {
      const button = grid.children[index];
      button.dataset.seed = seed;
      button.setAttribute("aria-label", `Seed ${seed}`);
      button.setAttribute("aria-pressed", String(seed === selected));
      const found = await image(addressOf(seed));
      if (mine !== round) return;
      show(button.firstChild, found.blob);
      if (seed === selected) showResult({ ...found, name: `${model.name}-${seed}` });
    }),
  );
}

function cell() {
  const button = document.createElement("button");
  button.type = "button";
  button.append(document.createElement("img"));
  button.firstChild.alt = "";
  button.addEventListener("click", () => {
    selected = Number(button.dataset.seed);
    for (const each of at("grid").children) each.setAttribute("aria-pressed", String(each === button));
    writeHash();
    attempt(async () => showResult({ ...(await image(addressOf(selected))), name: `${model.name}-${selected}` }));
  });
  return button;
}

function move(first) {
  at("seed").value = Math.min(Math.max(first, 0), 2 ** 32 - 1);
  return attempt(drawGrid);
}

function play() {
  const playing = player === null;
  at("play").setAttribute("aria-pressed", String(playing));
  if (!playing) {
    clearTimeout(player);
    player = null;
    way = 0;
    attempt(drawGrid);
    return;
  }
  const step = async () => {
    way = (way + 1) % PLAY_STEPS;
    await (way ? attempt(drawGrid) : move(Number(at("seed").value) + 1));
    if (player !== null) player = setTimeout(step, PLAY_MS);
  };
  player = setTimeout(step, 0);
}

// Upscalers and translators

function transform(blob) {
  const mine = ++round;
  sent = blob;
  const upscales = model.task === "super-resolution";
  const path = transformPath();
  at("status").textContent = "The server is working.";
  return attempt(async () => {
    try {
      const headers = { "Content-Type": blob.type || "application/octet-stream" };
      const answer = await image(path, { method: "POST", body: blob, headers });
      if (mine === round) showResult({ ...answer, name: model.name });
    } finally {
      if (at("status").textContent === "The server is working.") at("status").textContent = "";
    }
  });
}

function transformPath() {
  const upscales = model.task === "super-resolution";
  const found = new URLSearchParams({ format: at("format").value });
  if (upscales && at("scale").value) found.set("scale", at("scale").value);
  if (!upscales && model.labels.length) found.set("labels", attributes().join(","));
  return `${modelPath(upscales ? ":upscale" : ":translate")}?${readable(found)}`;
}

// Of a translator, by index; the server knows one empty text as none of them.
function attributes() {
  const found = [...at("attributes").querySelectorAll("input:checked")].map((each) => each.value);
  return found.length ? found : [""];
}

function prepareCanvas() {
  const canvas = at("canvas");
  canvas.width = canvas.height = Number(at("side").value);
  clearCanvas();
}

function clearCanvas() {
  const context = at("canvas").getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, at("canvas").width, at("canvas").height);
}

function draw() {
  const canvas = at("canvas");
  const context = canvas.getContext("2d");
  let last = null;
  let timer = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
  };
  const send = () => {
    clearTimeout(timer);
    timer = setTimeout(() => canvas.toBlob((blob) => transform(blob), "image/png"), DRAW_MS);
  };
  const line = (event) => {
    const next = place(event);
    context.strokeStyle = at("eraser").checked ? "white" : "black";
    context.lineWidth = (Number(at("pen").value) * canvas.width) / 256;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(...last);
    context.lineTo(...next);
    context.stroke();
    last = next;
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    line(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (last) line(event);
  });
  canvas.addEventListener("pointerup", () => {
    last = null;
    send();
  });
  canvas.addEventListener("pointercancel", () => (last = null));
  at("clear").addEventListener("click", clearCanvas);
  at("side").addEventListener("change", prepareCanvas);
  at("invert").addEventListener("click", () => {
    const context = canvas.getContext("2d");
    context.globalCompositeOperation = "difference";
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "source-over";
    send();
  });
}

// What came back

function show(element, blob) {
  const before = element.src;
  element.src = URL.createObjectURL(blob);
  // not sooner: it may still be loading
  element.decode().catch(() => {}).finally(() => before && URL.revokeObjectURL(before));
}

function showResult(found) {
  result = found;
  const { blob, headers, milliseconds } = found;
  at("shown").hidden = false;
  show(at("after"), blob);
  const generates = GENERATES.includes(model.task);
  const size = `${headers.get("ganserve-width")} x ${headers.get("ganserve-height")} px`;
  const what = generates ? `Seed ${headers.get("ganserve-seed")}` : model.task === "super-resolution" ? "Enlarged" : "Translated";
  at("after").alt = `${what}, ${model.name}`;
  const score = headers.get("ganserve-percentile");
  const chosen = score === null ? "" : `; the best of ${at("best-of").value}, above ${Number(score).toFixed(0)} % of the model's own`;
  at("caption").textContent = `${what}: ${size}, ${blob.type.replace("image/", "")}, ${bytes(blob.size)}${chosen}`;
  at("split").hidden = generates;
  at("before").hidden = generates;
  if (!generates) {
    show(at("before"), sent);
    split();
  }
  at("download").href = at("after").src;
  at("download").download = `${found.name}.${blob.type.replace("image/", "")}`;
  at("share").hidden = !generates;
  at("status").textContent = timing(headers, milliseconds);
  at("request").hidden = false;
  showCode();
}

function timing(headers, milliseconds) {
  const here = `${milliseconds.toFixed(0)} ms until it was here`;
  if ((headers.get("cache-status") || "").includes("hit")) return `${here}; the server had it.`;
  const phases = (headers.get("server-timing") || "").split(", ").map((each) => each.split(";dur="));
  const told = phases.filter(([name, value]) => name !== "total" && Number(value) > 0).map(([name, value]) => `${name} ${Number(value).toFixed(1)} ms`);
  const batch = Number(headers.get("ganserve-batch"));
  return `${here}; on the server ${told.join(", ")}; in a batch of ${batch}.`;
}

function bytes(count) {
  return count < 1000 ? `${count} bytes` : count < 1e6 ? `${(count / 1000).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

function split() {
  at("before").style.clipPath = `inset(0 ${100 - at("split-at").value}% 0 0)`;
}

// The request in other words

function showCode() {
  const tab = document.querySelector("[role=tab][aria-selected=true]");
  const words = { "tab-curl": curl, "tab-python": python, "tab-grpcurl": grpcurl }[tab.id];
  at("code").textContent = words(GENERATES.includes(model.task));
}

const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

function curl(generates) {
  const key = at("key").value ? " -H \"Authorization: Bearer $GANSERVE_API_KEY\"" : "";
  const file = result.name + at("download").download.slice(result.name.length);
  if (generates) return `curl -o ${quoted(file)}${key} ${quoted(location.origin + addressOf(selected))}`;
  return `curl -o ${quoted(file)}${key} --data-binary @image.png ${quoted(location.origin + transformPath())}`;
}

function python(generates) {
  const text = (value) => JSON.stringify(value);
  const words = fields();
  const options = [];
  if (generates) {
    options.push(`seeds=${selected}`);
    if (words.has("label")) options.push(`labels=${words.get("label")}`);
    if (words.has("psi")) options.push(`truncation=${words.get("psi")}`);
    if (words.has("center")) options.push(`truncation_center=${text(words.get("center"))}`);
    if (words.has("translate")) options.push(`translate=(${words.get("translate").replace(",", ", ")})`);
    if (words.has("rotate")) options.push(`rotate=${words.get("rotate")}`);
    if (words.has("noise_seed")) options.push(`noise_seeds=${words.get("noise_seed")}`);
    const edits = words.getAll("edit").map(readEdit);
    if (edits.some(({ layers }) => layers)) {
      const made = edits.map((each) => `Edit(${text(each.direction)}, ${each.strength}, ${text(each.layers)})`);
      options.push(`edits=[${made.join(", ")}]`);
    } else if (edits.length) {
      options.push(`edits={${edits.map((each) => `${text(each.direction)}: ${each.strength}`).join(", ")}}`);
    }
    if (words.has("mix")) {
      const [seed, layers] = words.get("mix").split("@");
      options.push(`mixes=[Mix(${seed}, ${text(layers)})]`);
    }
    if (words.has("best_of")) options.push(`best_of=${words.get("best_of")}`);
    if (words.has("then")) options.push(`then=${text(words.get("then"))}`);
  } else {
    options.push('"image.png"');
    if (model.task === "super-resolution" && at("scale").value) options.push(`scale=${at("scale").value}`);
    if (model.task !== "super-resolution" && model.labels.length) options.push(`labels=${text(attributes())}`);
  }
  options.push(`format=${text(at("format").value)}`);
  const key = at("key").value ? ', api_key=os.environ["GANSERVE_API_KEY"]' : "";
  const verb = generates ? "generate" : model.task === "super-resolution" ? "upscale" : "translate";
  const one = generates ? "[0]" : "";
  const names = ["Client", ...["Edit", "Mix"].filter((each) => options.some((option) => option.includes(`${each}(`)))].join(", ");
  return `${key ? "import os\n\n" : ""}from ganserve import ${names}\n\nwith Client("${location.hostname}:${GRPC_PORT}"${key}) as client:\n    image = client.${verb}(${text(model.name)}, ${options.join(", ")})${one}\n    image.save(${text(at("download").download)})`;
}

function grpcurl(generates) {
  const words = fields();
  const format = `IMAGE_FORMAT_${at("format").value.toUpperCase()}`;
  const key = at("key").value ? ' -H "authorization: Bearer $GANSERVE_API_KEY"' : "";
  const target = `${location.hostname}:${GRPC_PORT} ganserve.v1.ImageService`;
  const message = { model: model.name };
  if (!generates) {
    if (model.task === "super-resolution" && at("scale").value) message.scale = Number(at("scale").value);
    if (model.task !== "super-resolution" && model.labels.length) message.labels = attributes();
    const rest = JSON.stringify({ ...message, encoding: { format }, image: "IMAGE" });
    const body = quoted(rest).replace("IMAGE\"", "'\"$(base64 -w0 image.png)\"'\"");
    return `grpcurl -plaintext${key} -d ${body} ${target}/${model.task === "super-resolution" ? "Upscale" : "Translate"}`;
  }
  message.seeds = { values: [selected] };
  if (words.has("label")) message.labels = [words.get("label")];
  if (words.has("psi")) message.truncations = [Number(words.get("psi"))];
  if (words.has("center")) message.truncation_center = words.get("center");
  if (words.has("translate") || words.has("rotate")) {
    const [translate_x, translate_y] = (words.get("translate") ?? "0,0").split(",").map(Number);
    message.transforms = [{ translate_x, translate_y, rotate: Number(words.get("rotate") ?? 0) }];
  }
  if (words.has("noise_seed")) message.noise_seeds = [Number(words.get("noise_seed"))];
  message.edits = words.getAll("edit").map(readEdit).map(({ direction, strength, layers }) => ({ direction, strengths: [Number(strength)], layers }));
  message.mixes = words.getAll("mix").map((each) => ({ seeds: [Number(each.split("@")[0])], layers: each.split("@")[1] }));
  if (words.has("best_of")) message.best_of = Number(words.get("best_of"));
  if (words.has("then")) message.then = [{ model: words.get("then") }];
  message.encoding = { format };
  return `grpcurl -plaintext${key} -d ${quoted(JSON.stringify(message))} ${target}/Generate`;
}

// The model and its controls

function option(value, text) {
  const found = document.createElement("option");
  found.value = value;
  found.textContent = text;
  return found;
}

function choose(name, wanted = new URLSearchParams()) {
  model = models.find((each) => each.name === name) || models[0];
  at("model").value = model.name;
  if (player !== null) play();
  const generates = GENERATES.includes(model.task);
  at("generator").hidden = !generates;
  at("transformer").hidden = generates;
  at("grid").hidden = !generates;
  at("shown").hidden = at("request").hidden = true;
  at("status").textContent = "";
  sent = null;
  const runs = [model.engine, model.precision].filter(Boolean).join(" ");
  at("about").textContent = [model.architecture, model.task, runs && `runs in ${runs}`, model.licence].filter(Boolean).join("; ");
  if (generates) setGenerator(wanted);
  else setTransformer();
  if (wanted.get("format")) at("format").value = wanted.get("format");
  if (generates) attempt(async () => (await setDirections(wanted), await drawGrid()));
}

async function setDirections(wanted) {
  at("directions").replaceChildren();
  at("edits").hidden = !knob("edit");
  if (!knob("edit")) return;
  const mine = model;
  const { answer } = await call(modelPath("/directions"));
  const { directions } = await answer.json();
  if (mine !== model) return;
  const edits = wanted.getAll("edit").map(readEdit);
  at("directions").replaceChildren(
    ...directions.map(({ name }, index) => {
      const edit = edits.find(({ direction }) => direction === name || direction === String(index));
      const label = document.createElement("label");
      const slider = document.createElement("input");
      Object.assign(slider, { type: "range", min: -4, max: 4, step: 0.25, name, value: 0 });
      if (edit) setSlider(slider, edit.strength);
      slider.dataset.layers = edit?.layers ? `@${edit.layers}` : "";
      const shown = document.createElement("span");
      const tell = () => (shown.textContent = `${name} ${slider.value}${slider.dataset.layers}`);
      tell();
      slider.addEventListener("input", () => {
        tell();
        attempt(drawGrid);
      });
      label.append(shown, slider);
      return label;
    }),
  );
}

// A link may have a value between a slider's steps or beyond its ends.
function setSlider(slider, value) {
  const [min, max] = [Math.min(slider.min, value), Math.max(slider.max, value)];
  Object.assign(slider, { step: "any", min, max, value });
}

function setGenerator(wanted) {
  const label = at("label");
  label.replaceChildren(...model.labels.map((text, index) => option(index, text)));
  at("labels").hidden = !model.labels.length;
  if (wanted.get("label")) label.value = wanted.get("label");
  at("truncation").hidden = !model.truncation;
  if (model.truncation) {
    const { minimum, maximum, default: usual } = knob("truncation");
    Object.assign(at("psi"), { min: Math.max(minimum ?? -1, -1), max: Math.min(maximum ?? 1.5, 1.5), step: 0.05 });
    at("psi").value = usual;
    if (wanted.get("psi")) setSlider(at("psi"), wanted.get("psi"));
    at("psi-value").value = at("psi").value;
  }
  setCenters(wanted);
  setTransform(wanted);
  at("mix").hidden = !knob("mix");
  [at("mix-seed").value, at("mix-layers").value] = (wanted.get("mix") ?? "@").split("@");
  at("choice").hidden = !model.critic;
  at("best-of").value = [...at("best-of").options].some((each) => each.value === wanted.get("best_of")) ? wanted.get("best_of") : "1";
  at("noise").hidden = !knob("noise_seed");
  at("noise-seed").value = wanted.get("noise_seed") ?? "";
  const next = models.filter((each) => !GENERATES.includes(each.task) && [0, model.channels].includes(each.input_channels));
  at("then").replaceChildren(option("", "nothing"), ...next.map((each) => option(each.name, each.name)));
  at("steps").hidden = !next.length;
  at("then").value = next.some((each) => each.name === wanted.get("then")) ? wanted.get("then") : "";
  if (wanted.get("seed")) at("seed").value = wanted.get("seed");
  if (wanted.get("count")) at("count").value = wanted.get("count");
  selected = wanted.has("at") ? Number(wanted.get("at")) : null;
}

function setCenters(wanted) {
  const centers = knob("truncation_center");
  at("centers").hidden = !centers;
  const numbers = centers ? Array.from({ length: centers.maximum + 1 }, (_, index) => option(index, `centre ${index}`)) : [];
  at("center").replaceChildren(option("", "the mean"), option("nearest", "the nearest centre"), ...numbers);
  at("center").value = wanted.get("center") ?? "";
  tellCenter();
}

function setTransform(wanted) {
  at("transform").hidden = !knob("rotate");
  Object.assign(at("turn"), { min: -180, max: 180, step: 1, value: 0 });
  for (const id of ["move-x", "move-y"]) Object.assign(at(id), { min: -1, max: 1, step: 0.01, value: 0 });
  if (wanted.get("rotate")) setSlider(at("turn"), wanted.get("rotate"));
  const moved = wanted.get("translate")?.split(",") ?? [];
  moved.forEach((value, index) => setSlider(at(["move-x", "move-y"][index]), value));
  tellTransform();
}

function tellTransform() {
  at("turn-value").value = `${at("turn").value}\u00b0`;
  at("move-x-value").value = at("move-x").value;
  at("move-y-value").value = at("move-y").value;
}

function setTransformer() {
  const upscales = model.task === "super-resolution";
  at("scales").hidden = !upscales;
  at("drawing").hidden = upscales;
  const scales = [...new Set([1.5, 2, 3, 4, model.scale])].filter((each) => each !== model.scale).sort((a, b) => a - b);
  at("scale").replaceChildren(option("", `${model.scale} (the model's)`), ...scales.map((each) => option(each, each)));
  at("attributes").hidden = upscales || !model.labels.length;
  at("attribute-list").replaceChildren(
    ...model.labels.map((text, index) => {
      const label = document.createElement("label");
      const box = document.createElement("input");
      Object.assign(box, { type: "checkbox", value: index });
      box.addEventListener("change", () => sent && transform(sent));
      label.className = "check";
      label.append(box, ` ${text}`);
      return label;
    }),
  );
  if (!upscales) prepareCanvas();
}

function writeHash() {
  const found = fields();
  if (knob("truncation_center") && at("center").value) found.set("center", at("center").value); // for later
  found.set("model", model.name);
  found.set("seed", at("seed").value);
  found.set("count", at("count").value);
  if (selected !== null) found.set("at", selected);
  history.replaceState(null, "", `#${readable(found)}`);
}

async function load() {
  const { answer } = await call("/v1/models");
  const all = (await answer.json()).models;
  models = all.filter((each) => each.state === "READY" && each.bits.length && each.task !== "encoder"); // others are tensors only
  at("model").replaceChildren(...models.map((each) => option(each.name, each.name)));
  if (!models.length) {
    throw new Error(all.length ? "No model of this server makes images." : "The server has no models.");
  }
  const wanted = new URLSearchParams(location.hash.slice(1));
  choose(wanted.get("model"), wanted);
}

function listen() {
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("model").addEventListener("change", () => choose(at("model").value));
  at("key").addEventListener("change", () => {
    sessionStorage.setItem(KEY, at("key").value);
    attempt(load);
  });
  for (const id of ["seed", "count", "label", "center", "noise-seed", "mix-seed", "mix-layers", "best-of", "then"]) at(id).addEventListener("change", () => attempt(drawGrid));
  at("format").addEventListener("change", () => {
    if (GENERATES.includes(model.task)) attempt(drawGrid);
    else if (sent) transform(sent);
  });
  at("psi").addEventListener("input", () => {
    at("psi-value").value = at("psi").value;
    attempt(drawGrid);
  });
  for (const id of ["move-x", "move-y", "turn"]) {
    at(id).addEventListener("input", () => {
      tellTransform();
      attempt(drawGrid);
    });
  }
  at("previous").addEventListener("click", () => move(Number(at("seed").value) - seeds().length));
  at("next").addEventListener("click", () => move(Number(at("seed").value) + seeds().length));
  at("random").addEventListener("click", () => move(crypto.getRandomValues(new Uint32Array(1))[0]));
  at("play").addEventListener("click", play);
  at("straight").addEventListener("click", () => {
    for (const each of sliders()) {
      each.value = 0;
      each.previousSibling.textContent = `${each.name} 0${each.dataset.layers}`;
    }
    attempt(drawGrid);
  });
  at("scale").addEventListener("change", () => sent && transform(sent));
  at("split-at").addEventListener("input", split);
  at("file").addEventListener("change", () => at("file").files[0] && transform(at("file").files[0]));
  at("share").addEventListener("click", async () => {
    await navigator.clipboard.writeText(location.href);
    at("status").textContent = "The link is in the clipboard.";
  });
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.addEventListener("click", () => {
      for (const each of document.querySelectorAll("[role=tab]")) each.setAttribute("aria-selected", String(each === tab));
      showCode();
    });
  }
  const takes = () => model && !GENERATES.includes(model.task);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", takes());
  });
  addEventListener("dragleave", () => at("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    at("drop").classList.remove("over");
    if (takes() && event.dataTransfer.files[0]) transform(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    if (takes() && event.clipboardData.files[0]) transform(event.clipboardData.files[0]);
  });
  addEventListener("hashchange", () => {
    const wanted = new URLSearchParams(location.hash.slice(1));
    choose(wanted.get("model"), wanted);
  });
  draw();
}

at("key").value = sessionStorage.getItem(KEY) ?? "";
listen();
attempt(load);
