"""Small GeoTIFFs of a made-up scene, written by GDAL 3.6.2, and what GDAL reads in them: raster/*.tif and raster.json.

python3 test/golden/raster.py            # writes both
python3 test/golden/raster.py FOLDER     # prints GDAL's answers for the rasters of a folder, as raster.json has them
"""

import hashlib
import json
import os
import sys

import numpy as np
from osgeo import gdal, osr

gdal.UseExceptions()
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "raster")
WIDTH, HEIGHT = 37, 29
NORTH_UP = (500000.5, 0.25, 0, 4649776.25, 0, -0.25)
ROTATED = (1000.0, 0.4330127018922193, 0.25, 2000.0, 0.25, -0.4330127018922193)


def scene(bands, dtype, seed=1):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    smooth = np.stack([(x * (b + 2) + y * 3) % 251 + rng.integers(0, 4, (HEIGHT, WIDTH)) for b in range(bands)])
    if np.issubdtype(dtype, np.floating):
        return (smooth / 7 - 11).astype(dtype)
    info = np.iinfo(dtype)
    return (smooth * (info.max // 512 or 1) % (info.max + 1) + (0 if info.min == 0 else info.min // 3)).astype(dtype)


TYPES = {"uint8": gdal.GDT_Byte, "uint16": gdal.GDT_UInt16, "int16": gdal.GDT_Int16, "uint32": gdal.GDT_UInt32,
         "int32": gdal.GDT_Int32, "float32": gdal.GDT_Float32, "float64": gdal.GDT_Float64}


def write(name, bands, dtype, *options, transform=NORTH_UP, epsg=32618, nodata=None, data=None, point=False):
    data = scene(bands, np.dtype(dtype)) if data is None else data
    path = os.path.join(HERE, name + ".tif")
    made = gdal.GetDriverByName("GTiff").Create(path, WIDTH, HEIGHT, bands, TYPES[dtype], list(options))
    if transform:
        made.SetGeoTransform(transform)
    if epsg:
        reference = osr.SpatialReference()
        reference.ImportFromEPSG(epsg)
        made.SetProjection(reference.ExportToWkt())
    if point:
        made.SetMetadataItem("AREA_OR_POINT", "Point")
    for b in range(bands):
        band = made.GetRasterBand(b + 1)
        if nodata is not None:
            band.SetNoDataValue(nodata)
        band.WriteArray(data[b])
    made.FlushCache()
    return path


def answer(path):
    raster = gdal.Open(path)
    data = raster.ReadAsArray()
    data = data[None] if data.ndim == 2 else data
    pixels = np.ascontiguousarray(np.moveaxis(data, 0, -1))
    reference = raster.GetSpatialRef()
    transform = raster.GetGeoTransform(can_return_null=True)
    nodata = raster.GetRasterBand(1).GetNoDataValue()
    alpha = [b for b in range(raster.RasterCount) if raster.GetRasterBand(b + 1).GetColorInterpretation() == gdal.GCI_AlphaBand]
    return {
        "file": os.path.basename(path), "size": [raster.RasterXSize, raster.RasterYSize], "bands": raster.RasterCount,
        "type": gdal.GetDataTypeName(raster.GetRasterBand(1).DataType),
        "epsg": int(reference.GetAuthorityCode(None)) if reference and reference.GetAuthorityCode(None) else None,
        "geoTransform": list(transform) if transform else None,
        "nodata": "nan" if nodata is not None and np.isnan(nodata) else nodata,
        "alphaBand": alpha[0] if alpha else None,
        "overviews": [[raster.GetRasterBand(1).GetOverview(i).XSize, raster.GetRasterBand(1).GetOverview(i).YSize]
                      for i in range(raster.GetRasterBand(1).GetOverviewCount())],
        "sha256": hashlib.sha256(pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()).hexdigest(),
    }


def main():
    if len(sys.argv) > 1:
        found = []
        for name in sorted(os.listdir(sys.argv[1])):
            try:
                if name.endswith(".tif"):
                    found.append(answer(os.path.join(sys.argv[1], name)))
            except RuntimeError as error:
                found.append({"file": name, "error": str(error).split("\n")[0]})
        print("[\n" + ",\n".join(json.dumps(one) for one in found) + "\n]")
        return
    os.makedirs(HERE, exist_ok=True)
    for old in os.listdir(HERE):
        os.remove(os.path.join(HERE, old))
    tiled = ("TILED=YES", "BLOCKXSIZE=16", "BLOCKYSIZE=16")
    write("u8_lzw_strip", 3, "uint8", "COMPRESS=LZW", "BLOCKYSIZE=5")
    write("u8_lzw_pred2_tile", 3, "uint8", "COMPRESS=LZW", "PREDICTOR=2", *tiled)
    write("u8_packbits", 1, "uint8", "COMPRESS=PACKBITS")
    write("u8_jpeg", 3, "uint8", "COMPRESS=JPEG", "PHOTOMETRIC=YCBCR", *tiled)
    write("u8_zstd", 2, "uint8", "COMPRESS=ZSTD", *tiled)
    write("u8_alpha", 4, "uint8", "COMPRESS=DEFLATE", "ALPHA=YES", "PHOTOMETRIC=RGB")
    write("u16_planar_deflate_pred2", 5, "uint16", "COMPRESS=DEFLATE", "PREDICTOR=2", "INTERLEAVE=BAND", *tiled)
    write("u16_bigendian_deflate_pred2", 3, "uint16", "COMPRESS=DEFLATE", "PREDICTOR=2", "ENDIANNESS=BIG")
    write("u12", 1, "uint16", "NBITS=12", data=scene(1, np.dtype("uint16")) % 4096)
    write("u1", 1, "uint8", "NBITS=1", data=scene(1, np.dtype("uint8")) % 2)
    write("i16_bigtiff", 2, "int16", "COMPRESS=LZW", "BIGTIFF=YES", nodata=-9999)
    write("f32_pred3", 3, "float32", "COMPRESS=DEFLATE", "PREDICTOR=3", *tiled, nodata=float("nan"))
    write("f64_bigendian_pred3", 1, "float64", "COMPRESS=LZW", "PREDICTOR=3", "ENDIANNESS=BIG")
    write("rotated", 1, "uint8", "COMPRESS=DEFLATE", transform=ROTATED, epsg=3857)
    write("point", 1, "uint8", "COMPRESS=DEFLATE", epsg=4326, transform=(10, 0.001, 0, 50, 0, -0.001), point=True)
    write("plain", 3, "uint8", transform=None, epsg=None)
    sparse = gdal.GetDriverByName("GTiff").Create(
        os.path.join(HERE, "sparse.tif"), WIDTH, HEIGHT, 1, gdal.GDT_Byte, ["SPARSE_OK=TRUE", "COMPRESS=LZW", *tiled])
    sparse.GetRasterBand(1).SetNoDataValue(7)
    sparse.GetRasterBand(1).WriteArray(np.full((5, 5), 9, np.uint8), 20, 20)
    sparse = None
    overviews = gdal.Open(write("overviews", 1, "uint8", "COMPRESS=DEFLATE", *tiled), gdal.GA_Update)
    overviews.BuildOverviews("NEAREST", [2, 4])
    overviews = None
    found = [answer(os.path.join(HERE, name)) for name in sorted(os.listdir(HERE)) if name.endswith(".tif")]
    with open(os.path.join(HERE, "..", "raster.json"), "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(one) for one in found) + "\n]\n")


main()
