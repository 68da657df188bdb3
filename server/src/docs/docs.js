// The page at /docs: what /openapi.json describes, to read and to try out. Everything is put in as text, never as HTML.

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];
const DEEPEST = 8;
const byId = (id) => document.getElementById(id);

/** An element with attributes and children; texts are texts. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

const api = await load();
if (api) show(api);

async function load() {
  try {
    const answer = await fetch('/openapi.json');
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return await answer.json();
  } catch (error) {
    byId('operations').replaceChildren(el('p', {}, `The description could not be loaded: ${error.message}`));
    return undefined;
  }
}

function show(api) {
  byId('title').textContent = api.info.title;
  byId('version').textContent = api.info.version;
  byId('description').textContent = api.info.description ?? '';
  const token = byId('token');
  token.value = sessionStorage.getItem('token') ?? '';
  token.addEventListener('input', () => sessionStorage.setItem('token', token.value));

  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((method) => item[method])) {
      const operation = { ...item[method], path, method, parameters: [...(item.parameters ?? []), ...(item[method].parameters ?? [])] };
      const group = operation.tags?.[0] ?? groupOf(path);
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(operation);
    }
  }
  const sections = [...groups].sort(([a], [b]) => a.localeCompare(b)).map(([name, operations]) => {
    const shown = operations.map((operation) => card(api, operation));
    return el('section', {}, el('h2', {}, name), ...shown);
  });
  byId('operations').replaceChildren(...sections);
  byId('search').addEventListener('input', (event) => filter(event.target.value));
}

/** `/realtime/webrtc/rooms` belongs to `webrtc`, `/realtime/send` to `realtime`. */
function groupOf(path) {
  const parts = path.split('/').filter((part) => part && !part.startsWith('{'));
  return parts.length > 2 ? parts[1] : parts.length > 1 ? parts[0] : 'server';
}

function filter(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll('section')) {
    let any = false;
    for (const card of section.querySelectorAll('details.operation')) {
      card.hidden = !words.every((word) => card.dataset.text.includes(word));
      any ||= !card.hidden;
    }
    section.hidden = !any;
  }
}

function card(api, operation) {
  const { method, path } = operation;
  const summary = operation.summary ?? operation.description?.split('\n')[0] ?? '';
  const body = el('div');
  const details = el('details', { class: 'operation', 'data-text': `${method} ${path} ${summary} ${operation.operationId ?? ''}`.toLowerCase() },
    el('summary', {}, el('span', { class: `method ${method}` }, method.toUpperCase()), el('code', {}, path), el('span', { class: 'summary' }, summary)),
    body);
  details.addEventListener('toggle', () => {
    if (details.open && !body.hasChildNodes()) body.append(...inside(api, operation));
  });
  return details;
}

function inside(api, operation) {
  const parameters = operation.parameters.map((parameter) => resolve(api, parameter));
  const inputs = parameters.map((parameter) => el('input', { 'aria-label': parameter.name, placeholder: parameter.schema?.example ?? '' }));
  const rows = parameters.map((parameter, index) => el('tr', {},
    el('td', {}, el('code', {}, parameter.name), parameter.required ? ' *' : '', el('div', { class: 'quiet' }, parameter.in)),
    el('td', {}, parameter.description ?? '', el('div', { class: 'quiet' }, typeName(api, parameter.schema))),
    el('td', {}, inputs[index])));
  const table = rows.length > 0
    ? [el('h3', {}, 'Parameters'), el('table', {}, el('tr', {}, el('th', {}, 'Name'), el('th', {}, 'Meaning'), el('th', {}, 'Value')), ...rows)]
    : [];

  const content = operation.requestBody && resolve(api, operation.requestBody).content;
  const [type, media] = content ? Object.entries(content)[0] : [];
  const isForm = type === 'multipart/form-data';
  const body = content && !isForm ? el('textarea', { 'aria-label': 'Body', spellcheck: 'false' }) : undefined;
  if (body && media.schema) body.value = JSON.stringify(example(api, media.schema), null, 2) ?? '';
  const about = content ? [el('h3', {}, `Body: ${type}`), ...schemaTable(api, media.schema), body] : [];

  const answers = Object.entries(operation.responses ?? {}).map(([status, response]) => {
    const { description, content } = resolve(api, response);
    const schema = content && Object.values(content)[0]?.schema;
    return el('tr', {}, el('td', {}, el('code', {}, status)), el('td', {}, description ?? ''), el('td', {}, typeName(api, schema)));
  });
  const result = el('div');
  const send = el('button', { type: 'button', onclick: () => attempt(operation, { parameters, inputs, type, body }, send, result) }, 'Send');
  const hint = isForm ? 'A file is sent best by curl: curl -F file=@picture.png …' : '';
  return [
    el('p', {}, operation.description ?? ''), ...table, ...about,
    el('h3', {}, 'Answers'), el('table', {}, ...answers),
    el('div', { class: 'row' }, isForm ? undefined : send, el('span', { class: 'quiet' }, hint)), result,
  ];
}

async function attempt(operation, { parameters, inputs, type, body }, button, result) {
  let path = operation.path;
  const query = new URLSearchParams();
  const headers = {};
  parameters.forEach((parameter, index) => {
    const { value } = inputs[index];
    if (parameter.in === 'path') path = path.replace(`{${parameter.name}}`, encodeURIComponent(value));
    else if (value !== '' && parameter.in === 'query') query.append(parameter.name, value);
    else if (value !== '' && parameter.in === 'header') headers[parameter.name] = value;
  });
  const token = byId('token').value.trim();
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers['Content-Type'] = type;
  const address = query.size > 0 ? `${path}?${query}` : path;
  button.disabled = true;
  const started = performance.now();
  // Streams of events do not end by themselves.
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), 10_000);
  try {
    const answer = await fetch(address, { method: operation.method.toUpperCase(), headers, body: body?.value, signal: abort.signal });
    const text = await answer.text();
    const milliseconds = Math.round(performance.now() - started);
    result.replaceChildren(
      el('p', {}, el('code', {}, `${answer.status} ${answer.statusText}`), ` after ${milliseconds} ms · ${address}`),
      el('pre', {}, [...answer.headers].map(([name, value]) => `${name}: ${value}`).join('\n')),
      el('pre', {}, pretty(text)));
  } catch (error) {
    const message = abort.signal.aborted ? 'no end after 10 seconds' : error.message;
    result.replaceChildren(el('p', {}, `Failed: ${message}`));
  } finally {
    clearTimeout(timer);
    button.disabled = false;
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function resolve(api, thing) {
  if (!thing?.$ref) return thing ?? {};
  return thing.$ref.replace('#/', '').split('/').reduce((at, key) => at?.[key], api) ?? {};
}

/** The fields of an object, those of its parts too. */
function fields(api, schema, depth = 0) {
  const found = resolve(api, schema);
  const parts = depth < DEEPEST ? (found.allOf ?? []).flatMap((part) => fields(api, part, depth + 1)) : [];
  const required = found.required ?? [];
  return [...parts, ...Object.entries(found.properties ?? {}).map(([name, of]) => ({ name, of, required: required.includes(name) }))];
}

function schemaTable(api, schema) {
  const rows = fields(api, schema).map(({ name, of, required }) => el('tr', {},
    el('td', {}, el('code', {}, name), required ? ' *' : ''),
    el('td', {}, of.description ?? resolve(api, of).description ?? ''),
    el('td', {}, typeName(api, of))));
  return rows.length > 0 ? [el('table', {}, ...rows)] : [];
}

function typeName(api, schema, depth = 0) {
  if (!schema || depth > DEEPEST) return '';
  if (schema.$ref) return schema.$ref.split('/').pop();
  const several = schema.oneOf ?? schema.anyOf;
  if (several) return several.map((one) => typeName(api, one, depth + 1)).filter(Boolean).join(' or ');
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' or ');
  const type = [schema.type].flat().filter((name) => name && name !== 'null').join(' or ');
  if (type === 'array') return `list of ${typeName(api, schema.items, depth + 1) || 'anything'}`;
  return type || 'anything';
}

/** A value as the schema wants it: its examples, and nothing for what need not be there. */
function example(api, schema, depth = 0) {
  const found = resolve(api, schema);
  if (depth > DEEPEST) return null;
  if (found.example !== undefined) return found.example;
  if (found.examples?.length > 0) return found.examples[0];
  if (found.default !== undefined) return found.default;
  if (found.enum) return found.enum[0];
  const several = found.oneOf ?? found.anyOf;
  if (several) return example(api, several.find((one) => one.type !== 'null') ?? several[0], depth + 1);
  const own = fields(api, found);
  if (own.length > 0) {
    const wanted = own.filter(({ of, required }) => required || resolve(api, of).example !== undefined);
    return Object.fromEntries(wanted.map(({ name, of }) => [name, example(api, of, depth + 1)]));
  }
  switch ([found.type].flat().find((name) => name !== 'null')) {
    case 'string': return 'text';
    case 'integer': case 'number': return 0;
    case 'boolean': return false;
    case 'array': return found.items ? [example(api, found.items, depth + 1)] : [];
    case 'object': return {};
    default: return null;
  }
}
