/** Typed events: a handful of lines instead of a dependency. */

type Handler<T> = (value: T) => void;

export class Emitter<Events extends object> {
  readonly #handlers = new Map<keyof Events, Set<Handler<never>>>();

  /** Calls `handler` at every `name` event from now on; the returned function ends that. */
  on<Name extends keyof Events>(name: Name, handler: Handler<Events[Name]>): () => void {
    let handlers = this.#handlers.get(name);
    if (!handlers) {
      handlers = new Set();
      this.#handlers.set(name, handlers);
    }
    handlers.add(handler as Handler<never>);
    return () => handlers.delete(handler as Handler<never>);
  }

  /** For the class that owns the events. A handler that throws does not keep the others from hearing. */
  protected emit<Name extends keyof Events>(name: Name, value: Events[Name]): void {
    for (const handler of this.#handlers.get(name) ?? []) {
      try {
        (handler as Handler<Events[Name]>)(value);
      } catch (error) {
        console.error(error);
      }
    }
  }
}
