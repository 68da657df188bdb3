// The page at /cameras: the cameras of a room, each as moving pictures. Everything is put in as text, never as HTML.

const LOOK_MS = 2_000;
const TEXTS = {
  en: {
    title: 'Cameras', room: 'Room', token: 'Token or API key', fps: 'Pictures a second', show: 'Show',
    none: 'No camera sends in this room.', viewers: 'looking: ', all: 'all',
  },
  ru: {
    title: 'Камеры', room: 'Комната', token: 'Токен или ключ API', fps: 'Кадров в секунду', show: 'Показать',
    none: 'В этой комнате нет работающих камер.', viewers: 'смотрят: ', all: 'все',
  },
};
const language = navigator.language.startsWith('ru') ? 'ru' : 'en';
const texts = TEXTS[language];
const byId = (id) => document.getElementById(id);

/** What is shown, by name. */
const shown = new Map();
let timer;

document.documentElement.lang = language;
document.title = `Veche – ${texts.title}`;
for (const element of document.querySelectorAll('[data-text]')) element.textContent = texts[element.dataset.text];
byId('fps').options[0].textContent = texts.all;
byId('room').value = new URLSearchParams(location.search).get('room') ?? '';
byId('token').value = sessionStorage.getItem('token') ?? '';
byId('place').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem('token', byId('token').value);
  history.replaceState(null, '', `?room=${encodeURIComponent(byId('room').value)}`);
  begin();
});
if (byId('room').value) begin();

/** Shows a room's cameras from the beginning. */
function begin() {
  clearTimeout(timer);
  for (const name of [...shown.keys()]) remove(name);
  void look();
}

/** Looks which cameras there are, again and again. */
async function look() {
  const token = byId('token').value;
  try {
    const answer = await fetch(address(''), { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error?.message ?? answer.statusText);
    show(body.cameras);
  } catch (error) {
    say(error.message, true);
  }
  timer = setTimeout(look, LOOK_MS);
}

function show(cameras) {
  say(cameras.length === 0 ? texts.none : '', false);
  for (const name of [...shown.keys()]) if (!cameras.some((camera) => camera.name === name)) remove(name);
  for (const camera of cameras) {
    const { facts } = shown.get(camera.name) ?? add(camera.name);
    facts.textContent = `${camera.width} × ${camera.height} · ${texts.viewers}${camera.viewers}`;
  }
}

function add(name) {
  const [figure, image, caption, title, facts] = ['figure', 'img', 'figcaption', 'strong', 'span'].map((kind) => document.createElement(kind));
  image.alt = title.textContent = name;
  facts.className = 'quiet';
  image.src = stream(name);
  // A stream that broke off begins again while the camera is listed.
  image.addEventListener('error', () => setTimeout(() => shown.has(name) && (image.src = stream(name)), LOOK_MS));
  caption.append(title, facts);
  figure.append(image, caption);
  byId('cameras').append(figure);
  const parts = { figure, image, facts };
  shown.set(name, parts);
  return parts;
}

function remove(name) {
  const { figure, image } = shown.get(name);
  // Browsers go on loading a picture that is only taken out of the page.
  image.removeAttribute('src');
  figure.remove();
  shown.delete(name);
}

function stream(name) {
  const query = new URLSearchParams();
  if (byId('fps').value) query.set('fps', byId('fps').value);
  if (byId('token').value) query.set('token', byId('token').value);
  query.set('at', Date.now());
  return `${address(`/${encodeURIComponent(name)}/mjpeg`)}?${query}`;
}

function address(path) {
  return `/realtime/webrtc/rooms/${encodeURIComponent(byId('room').value)}/cameras${path}`;
}

function say(text, wrong) {
  byId('status').textContent = text;
  byId('status').className = wrong ? 'wrong' : 'quiet';
}
