"""One service under every model of concurrency and transport: threads or processes?"""
