/** The texts of the test pages in both languages. */

import { computed, effect, signal } from '@preact/signals';

export type Language = 'en' | 'ru';

/** The app's own choice is kept under the same name. */
const STORED = 'veche.language';

const en = {
  'page.ws': 'WebSocket',
  'page.sse': 'Server-sent events',
  'page.api': 'HTTP API',
  'state.off': 'Not connected',
  'state.connecting': 'Connecting…',
  'state.on': 'Connected',
  'state.waiting': 'Lost; next attempt in {seconds} s',
  'state.refused': 'Refused: {reason}',
  'figure.id': 'Connection',
  'figure.user': 'User',
  'figure.ping': 'Round trip',
  'figure.reconnects': 'Reconnects',
  'figure.recovered': 'Recovered',
  'figure.in': 'In',
  'figure.out': 'Out',
  'figure.last': 'Last frame',
  'figure.position': 'Position',
  'figure.none': '–',
  'connect.title': 'Connection',
  'connect.address': 'Address',
  'connect.token': 'Token or API key (optional)',
  'connect.binary': 'Binary frames instead of base64',
  'connect.last': 'Last event ID to continue from (optional)',
  'connect.do': 'Connect',
  'connect.undo': 'Disconnect',
  'connect.cut': 'Cut the line',
  'connect.cutHint': 'Closes the socket as a broken network would: watch it come back.',
  'channel.title': 'Channels',
  'channel.name': 'Channel',
  'channel.names': 'Channels, separated by commas',
  'channel.filters': 'Filters',
  'channel.noBinary': 'No binary messages',
  'channel.maxSize': 'Largest file, bytes',
  'channel.types': 'Allowed types',
  'channel.notifications': 'Kinds of notifications',
  'channel.presence': 'Tell who comes and goes',
  'channel.subscribe': 'Subscribe',
  'channel.unsubscribe': 'Unsubscribe from {channel}',
  'channel.history': 'History of {channel}',
  'channel.here': '{count} here',
  'send.title': 'Send',
  'send.message': 'Message',
  'send.notification': 'Notification',
  'send.file': 'File',
  'send.raw': 'Raw',
  'send.to': 'To the channel',
  'send.everybody': 'empty: to everybody',
  'send.data': 'Text or JSON',
  'send.keep': 'Keep for later subscribers',
  'send.heading': 'Title',
  'send.body': 'Text',
  'send.kind': 'Kind',
  'send.choose': 'File',
  'send.way': 'Way',
  'send.upload': 'Upload over HTTP, any size',
  'send.inline': 'Over the WebSocket',
  'send.frame': 'The frame as it is',
  'send.do': 'Send',
  'send.done': 'Sent in {ms} ms',
  'log.title': 'Frames',
  'log.search': 'Search',
  'log.in': 'in',
  'log.out': 'out',
  'log.pause': 'Pause',
  'log.resume': 'Go on',
  'log.clear': 'Clear',
  'log.copy': 'Copy as JSON',
  'log.save': 'Save',
  'log.empty': 'Nothing yet. Connect, subscribe, send.',
  'log.waiting': '{count} more while paused',
  'event.close': 'closed: {code} {reason}',
  'event.reconnecting': 'attempt {attempt} in {ms} ms',
  'event.open': 'connected',
  'event.reopen': 'connected again',
  'event.recovered': '{channel}: recovered, nothing was missed',
  'event.lost': '{channel}: not recovered, messages may be missing',
  'unit.ms': '{value} ms',
  'unit.s': '{value} s',
  'unit.min': '{value} min',
  'unit.b': '{value} B',
  'unit.kb': '{value} KB',
  'unit.mb': '{value} MB',
};

export type TextKey = keyof typeof en;

const ru: Record<TextKey, string> = {
  'page.ws': 'WebSocket',
  'page.sse': 'События сервера (SSE)',
  'page.api': 'HTTP API',
  'state.off': 'Нет соединения',
  'state.connecting': 'Соединяемся…',
  'state.on': 'Соединено',
  'state.waiting': 'Потеряно; попытка через {seconds} с',
  'state.refused': 'Отказано: {reason}',
  'figure.id': 'Соединение',
  'figure.user': 'Пользователь',
  'figure.ping': 'Туда и обратно',
  'figure.reconnects': 'Переподключений',
  'figure.recovered': 'Восстановлено',
  'figure.in': 'Получено',
  'figure.out': 'Отправлено',
  'figure.last': 'Последний кадр',
  'figure.position': 'Позиция',
  'figure.none': '–',
  'connect.title': 'Соединение',
  'connect.address': 'Адрес',
  'connect.token': 'Токен или ключ API (если нужен)',
  'connect.binary': 'Бинарные кадры вместо base64',
  'connect.last': 'Продолжить с ID события (если нужно)',
  'connect.do': 'Подключиться',
  'connect.undo': 'Отключиться',
  'connect.cut': 'Оборвать связь',
  'connect.cutHint': 'Закрывает сокет, как при обрыве сети: видно, как он возвращается.',
  'channel.title': 'Каналы',
  'channel.name': 'Канал',
  'channel.names': 'Каналы через запятую',
  'channel.filters': 'Фильтры',
  'channel.noBinary': 'Без бинарных сообщений',
  'channel.maxSize': 'Наибольший файл, байт',
  'channel.types': 'Разрешённые типы',
  'channel.notifications': 'Виды уведомлений',
  'channel.presence': 'Сообщать, кто пришёл и ушёл',
  'channel.subscribe': 'Подписаться',
  'channel.unsubscribe': 'Отписаться от {channel}',
  'channel.history': 'История {channel}',
  'channel.here': 'здесь: {count}',
  'send.title': 'Отправить',
  'send.message': 'Сообщение',
  'send.notification': 'Уведомление',
  'send.file': 'Файл',
  'send.raw': 'Кадр',
  'send.to': 'В канал',
  'send.everybody': 'пусто: всем',
  'send.data': 'Текст или JSON',
  'send.keep': 'Хранить для новых подписчиков',
  'send.heading': 'Заголовок',
  'send.body': 'Текст',
  'send.kind': 'Вид',
  'send.choose': 'Файл',
  'send.way': 'Способ',
  'send.upload': 'Загрузить по HTTP, любой размер',
  'send.inline': 'Через WebSocket',
  'send.frame': 'Кадр как есть',
  'send.do': 'Отправить',
  'send.done': 'Отправлено за {ms} мс',
  'log.title': 'Кадры',
  'log.search': 'Поиск',
  'log.in': 'входящие',
  'log.out': 'исходящие',
  'log.pause': 'Пауза',
  'log.resume': 'Дальше',
  'log.clear': 'Очистить',
  'log.copy': 'Скопировать JSON',
  'log.save': 'Сохранить',
  'log.empty': 'Пока пусто. Подключитесь, подпишитесь, отправьте.',
  'log.waiting': 'ещё {count} за время паузы',
  'event.close': 'закрыто: {code} {reason}',
  'event.reconnecting': 'попытка {attempt} через {ms} мс',
  'event.open': 'соединено',
  'event.reopen': 'снова соединено',
  'event.recovered': '{channel}: восстановлено, ничего не пропущено',
  'event.lost': '{channel}: не восстановлено, сообщения могли пропасть',
  'unit.ms': '{value} мс',
  'unit.s': '{value} с',
  'unit.min': '{value} мин',
  'unit.b': '{value} Б',
  'unit.kb': '{value} КБ',
  'unit.mb': '{value} МБ',
};

export const dictionaries: Record<Language, Record<TextKey, string>> = { en, ru };

export const language = signal<Language>(initial());
const numbers = computed(() => new Intl.NumberFormat(language.value, { maximumFractionDigits: 1 }));

export function t(key: TextKey, values: Record<string, string | number> = {}): string {
  return dictionaries[language.value][key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

export function chooseLanguage(code: Language): void {
  language.value = code;
  try {
    localStorage.setItem(STORED, code);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}

export function followLanguage(): void {
  effect(() => {
    document.documentElement.lang = language.value;
  });
}

/** Bytes for people. */
export function size(bytes: number): string {
  if (bytes < 1000) return t('unit.b', { value: bytes });
  if (bytes < 1e6) return t('unit.kb', { value: numbers.value.format(bytes / 1e3) });
  return t('unit.mb', { value: numbers.value.format(bytes / 1e6) });
}

/** A time span for people. */
export function span(ms: number): string {
  if (ms < 10) return t('unit.ms', { value: numbers.value.format(ms) });
  if (ms < 1000) return t('unit.ms', { value: Math.round(ms) });
  if (ms < 120_000) return t('unit.s', { value: numbers.value.format(ms / 1000) });
  return t('unit.min', { value: Math.round(ms / 60_000) });
}

function initial(): Language {
  let stored: string | null = null;
  try {
    stored = localStorage.getItem(STORED);
  } catch {
    // No storage, no choice.
  }
  for (const code of [stored, ...navigator.languages]) {
    const short = code?.slice(0, 2);
    if (short === 'en' || short === 'ru') return short;
  }
  return 'en';
}
