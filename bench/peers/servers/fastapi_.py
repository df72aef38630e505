"""FastAPI under uvicorn with httptools and uvloop: no batches, the session called in a thread of the pool."""

import uvicorn
from fastapi import FastAPI, Request, Response
from net import PORT, WORKERS, Net
from starlette.concurrency import run_in_threadpool

app = FastAPI()
net = Net() if __name__ != "__main__" else None


@app.post("/inference")
async def inference(request: Request):
    """Bytes in, bytes out."""
    images = await run_in_threadpool(net.run_bytes, [await request.body()])
    return Response(images[0], media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run("fastapi_:app", host="127.0.0.1", port=PORT, workers=WORKERS, log_level="error", access_log=False)
