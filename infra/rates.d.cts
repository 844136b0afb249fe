declare const rates: { rateSeconds(rate: unknown): number | undefined }
export = rates
