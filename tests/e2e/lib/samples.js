// The specification's JavaScript client as it stands there. Only the address is the page's own server.

class RealtimeClient {
  constructor(wsUrl, sseUrl) {
    this.wsUrl = wsUrl;
    this.sseUrl = sseUrl;
    this.ws = null;
    this.eventSource = null;
  }

  // WebSocket подключение
  connectWebSocket() {
    this.ws = new WebSocket(this.wsUrl);

    this.ws.onopen = () => {
      console.log("WebSocket подключен");
    };

    this.ws.onmessage = (event) => {
      const message = JSON.parse(event.data);
      this.handleMessage(message);
    };

    this.ws.onclose = () => {
      console.log("WebSocket отключен");
      // Автоматическое переподключение
      setTimeout(() => this.connectWebSocket(), 5000);
    };
  }

  // SSE подключение
  connectSSE(channel) {
    const url = `${this.sseUrl}?channel=${channel}`;
    this.eventSource = new EventSource(url);

    this.eventSource.addEventListener("notification", (event) => {
      const data = JSON.parse(event.data);
      this.showNotification(data.title, data.body);
    });

    this.eventSource.addEventListener("binary_data", (event) => {
      const data = JSON.parse(event.data);
      this.handleBinaryData(data);
    });
  }

  // Отправка бинарных данных
  async sendFile(file, channel = null) {
    const formData = new FormData();
    formData.append("file", file);
    if (channel) formData.append("channel", channel);

    try {
      const response = await fetch("/realtime/binary/upload", {
        method: "POST",
        body: formData,
        headers: {
          Authorization: `Bearer ${this.token}`,
        },
      });

      if (response.ok) {
        console.log("Файл отправлен успешно");
      }
    } catch (error) {
      console.error("Ошибка отправки файла:", error);
    }
  }

  // Обработка бинарных данных
  handleBinaryData(data) {
    if (data.content_type.startsWith("image/")) {
      this.displayImage(data);
    } else if (data.content_type === "application/pdf") {
      this.downloadFile(data);
    }
  }

  // Отображение изображения
  displayImage(data) {
    const img = document.createElement("img");
    img.src = `data:${data.content_type};base64,${data.binary_data}`;
    document.body.appendChild(img);
  }

  // Скачивание файла
  downloadFile(data) {
    const bytes = atob(data.binary_data);
    const byteArray = new Uint8Array(bytes.length);
    for (let i = 0; i < bytes.length; i++) {
      byteArray[i] = bytes.charCodeAt(i);
    }

    const blob = new Blob([byteArray], { type: data.content_type });
    const url = URL.createObjectURL(blob);

    const a = document.createElement("a");
    a.href = url;
    a.download = data.filename || "download";
    a.click();

    URL.revokeObjectURL(url);
  }
}

class WebSocketClient {
    constructor(url, options = {}) {
        this.url = url;
        this.options = {
            reconnectInterval: 1000,
            maxReconnectInterval: 30000,
            reconnectDecay: 1.5,
            maxReconnectAttempts: null,
            ...options
        };

        this.reconnectAttempts = 0;
        this.handlers = {
            open: [],
            message: [],
            close: [],
            error: []
        };

        this.connect();
    }

    connect() {
        this.socket = new WebSocket(this.url);

        this.socket.onopen = (event) => {
            console.log('WebSocket соединение установлено');
            this.reconnectAttempts = 0;
            this.handlers.open.forEach(handler => handler(event));
        };

        this.socket.onmessage = (event) => {
            this.handlers.message.forEach(handler => handler(event));
        };

        this.socket.onclose = (event) => {
            this.handlers.close.forEach(handler => handler(event));
            this.reconnect();
        };

        this.socket.onerror = (error) => {
            this.handlers.error.forEach(handler => handler(error));
        };
    }

    reconnect() {
        if (this.options.maxReconnectAttempts !== null &&
            this.reconnectAttempts >= this.options.maxReconnectAttempts) {
            console.log('Достигнуто максимальное количество попыток переподключения');
            return;
        }

        const timeout = Math.min(
            this.options.reconnectInterval * Math.pow(
                this.options.reconnectDecay,
                this.reconnectAttempts
            ),
            this.options.maxReconnectInterval
        );

        console.log(`Переподключение через ${timeout}мс...`);

        setTimeout(() => {
            this.reconnectAttempts++;
            this.connect();
        }, timeout);
    }

    on(event, handler) {
        if (this.handlers[event]) {
            this.handlers[event].push(handler);
        }
        return this;
    }

    send(data) {
        if (this.socket.readyState === WebSocket.OPEN) {
            this.socket.send(typeof data === 'string' ? data : JSON.stringify(data));
            return true;
        }
        return false;
    }

    close() {
        this.options.maxReconnectAttempts = 0;
        this.socket.close();
    }
}

window.Sample = { RealtimeClient, WebSocketClient };
