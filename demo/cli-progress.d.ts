// Types of the part of cli-progress (which has none of its own) that the demo uses.
declare module 'cli-progress' {
  export interface Params {
    readonly value: number
    readonly total: number
  }
  export interface Options<Payload> {
    readonly stream: NodeJS.WriteStream
    readonly format: (options: unknown, params: Params, payload: Payload) => string
    readonly hideCursor: boolean
    readonly forceRedraw: boolean
    readonly clearOnComplete: boolean
  }
  export interface Bar<Payload> {
    setTotal(total: number): void
    update(value: number, payload?: Payload): void
  }
  export class MultiBar<Payload> {
    constructor(options: Options<Payload>)
    create(total: number, value: number, payload: Payload): Bar<Payload>
    /** Prints above the bars, with the next redraw. */
    log(text: string): void
    update(): void
    stop(): void
  }
  const cliProgress: { readonly MultiBar: typeof MultiBar }
  export default cliProgress
}
